// ---- Keys

/** Runs what a button or form asks for, once at a time, and says in `note` how it went. `work` gets the pool that is chosen
 *  now; if it is another one afterwards, the note names the former. */
function action(note, button, work) {
  return async event => {
    event?.preventDefault();
    if (button.ariaDisabled === 'true') return;
    button.ariaDisabled = 'true';
    say(note, '', '');
    const at = pool, where = () => pool === at ? '' : `In the pool ${at}: `;
    try {
      const done = await work(at) ?? '';
      say(note, 'good', done && where() + done);
    } catch (error) {
      say(note, 'bad', where() + (error.title ?? String(error)), error.detail);
    } finally {
      button.ariaDisabled = null;
    }
  };
}
function say(note, kind, title, detail = '') {
  note.dataset.kind = kind;
  note.replaceChildren(...(kind === 'bad' ? [el('strong', {}, title), detail] : [title]));
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS there is no clipboard but this old way.
    const area = el('textarea', { 'aria-hidden': 'true' }, text);
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
    button.focus();
  }
  const label = button.dataset.label ??= button.textContent;
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = label; }, 1500);
}
function copyButton(text, what) {
  const button = el('button', { class: 'small', type: 'button', 'aria-label': `Copy ${what}` }, 'Copy');
  button.addEventListener('click', () => copy(text, button));
  return button;
}

function lookButton(id) {
  const button = el('button', { class: 'small', type: 'button', 'aria-label': `Look up ${id}` }, 'Look up');
  button.addEventListener('click', () => {
    $('key-id').value = id;
    $('look-form').requestSubmit();
    $('look-title').focus();
  });
  return button;
}
const keysOf = number => `${whole.format(number)} ${number === 1 ? 'key' : 'keys'}`;

let created = [];
$('create-form').addEventListener('submit', action($('create-note'), $('create-form').querySelector('button'), async at => {
  const response = await request(inPool('keys', at), { method: 'POST', role: 'admin', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ count: $('count').valueAsNumber }) });
  const answer = await response.json();
  const ids = answer.keyIds ?? [answer.keyId], more = ids.length - SHOWN_IDS;
  if (pool === at) showCreated(ids);
  return `Created ${keysOf(ids.length)}.${pool === at && more > 0 ? ` The first ${SHOWN_IDS} are shown; all can be copied.` : ''}`;
}));
function showCreated(ids) {
  created = ids;
  $('created').hidden = !ids.length;
  $('ids').replaceChildren(...ids.slice(0, SHOWN_IDS).map(id => {
    return el('li', {}, el('code', { class: 'mono' }, id), copyButton(id, id), lookButton(id));
  }));
}
$('copy-all').addEventListener('click', () => copy(created.join('\n'), $('copy-all')));
$('clear').addEventListener('click', () => {
  showCreated([]);
  say($('create-note'), '', '');
  $('count').focus();
});

/** The key that is shown. What is done is done to this one as it was seen, not to what stands in the field. */
let key = null;
const fence = () => key.etag ? { 'If-Match': key.etag } : {};

async function look(id, at) {
  showKey(null);
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) throw new Refusal(404, 'No such key', 'An id looks like 21cdf68a-27d4-4b26-8ade-7f4a0a9b4b4f.');
  const response = await request(inPool(`keys/${encodeURIComponent(id)}`, at));
  const facts = await response.json(), header = name => response.headers.get(name);
  if (pool !== at) return;
  showKey({ id, etag: header('etag'), holder: header('lease-holder'), leaseEnds: header('lease-expires-at'), keyEnds: header('key-expires-at'), ...facts });
}
function showKey(next) {
  key = next;
  $('key').hidden = !key;
  $('confirm').hidden = true;
  if (!key) return;
  $('release').hidden = !key.isBlocked;
  const facts = [
    ['Key', key.id], ['State', key.isBlocked ? 'Blocked' : 'Free', key.isBlocked ? 'leased, or resting after a release' : 'for whoever asks next'],
    ['Holder', key.holder], ['Created at', key.createdAt], ['Blocked at', key.blockedAt], ['Lease expires at', key.leaseEnds, key.leaseEnds],
    ['Key expires at', key.keyEnds ?? 'never', key.keyEnds], ['ETag', key.etag],
  ];
  $('key-facts').replaceChildren(...facts.flatMap(([name, value, more]) => {
    const small = el('small', more && more === value ? { 'data-until': value } : {}, more ?? '');
    return [el('dt', {}, name), el('dd', { 'data-fact': name }, el('span', {}, value ?? '–'), ' ', small)];
  }));
  $('key-facts').querySelector('[data-fact=State]').prepend(coloured(el('i', { class: 'swatch' }), key.isBlocked ? 'blocked' : 'free'));
  countDown();
}
/** How long until the key's deadlines, by the server's clock. */
function countDown() {
  for (const element of document.querySelectorAll('[data-until]')) {
    const seconds = Math.ceil((Date.parse(element.dataset.until) - Date.now() + skewMs) / 1000);
    element.textContent = seconds > 0 ? `in ${seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`}` : 'over';
  }
}
$('look-form').addEventListener('submit', action($('look-note'), $('look-form').querySelector('button'), at => look($('key-id').value.trim(), at)));

/** A refusal of If-Match needs telling what became of the key. */
async function onKey(method, role, at) {
  try {
    await request(inPool(`keys/${encodeURIComponent(key.id)}`, at), { method, role, headers: fence() });
  } catch (error) {
    if (error.status === 412) error.detail += ' Look it up again to see what it is now.';
    throw error;
  }
}
$('release').addEventListener('click', action($('look-note'), $('release'), async at => {
  const { id } = key;
  await onKey('PUT', 'client or admin', at);
  if (pool === at) await look(id, at);
  $('key-id').focus();
  return 'Released.';
}));
$('delete').addEventListener('click', () => {
  $('confirm').hidden = false;
  $('confirm-no').focus();
});
$('confirm-no').addEventListener('click', () => {
  $('confirm').hidden = true;
  $('delete').focus();
});
$('confirm-yes').addEventListener('click', action($('look-note'), $('confirm-yes'), async at => {
  await onKey('DELETE', 'admin', at);
  if (pool === at) showKey(null);
  $('key-id').focus();
  return 'Deleted.';
}));
