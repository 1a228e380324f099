// ---- Keys

/** Runs what a button or form asks for, once at a time, and says in `note` how it went. */
function action(note, button, work) {
  return async event => {
    event?.preventDefault();
    if (button.ariaDisabled === 'true') return;
    button.ariaDisabled = 'true';
    say(note, '', '');
    try {
      say(note, 'good', await work() ?? '');
    } catch (error) {
      say(note, 'bad', error.title ?? String(error), error.detail);
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

let created = [];
$('create-form').addEventListener('submit', action($('create-note'), $('create-form').querySelector('button'), async () => {
  const response = await request('keys', { method: 'POST', role: 'admin', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ count: $('count').valueAsNumber }) });
  const answer = await response.json();
  showCreated(answer.keyIds ?? [answer.keyId]);
  const more = created.length - SHOWN_IDS;
  return `Created ${whole.format(created.length)} ${created.length === 1 ? 'key' : 'keys'}.${more > 0 ? ` The first ${SHOWN_IDS} are shown; all can be copied.` : ''}`;
}));
function showCreated(ids) {
  created = ids;
  $('created').hidden = !ids.length;
  $('ids').replaceChildren(...ids.slice(0, SHOWN_IDS).map(id => {
    const look = el('button', { class: 'small', type: 'button', 'aria-label': `Look up ${id}` }, 'Look up');
    look.addEventListener('click', () => {
      $('key-id').value = id;
      $('look-form').requestSubmit();
    });
    return el('li', {}, el('code', { class: 'mono' }, id), copyButton(id, id), look);
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

async function look(id) {
  showKey(null);
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) throw new Refusal(404, 'No such key', 'An id looks like 21cdf68a-27d4-4b26-8ade-7f4a0a9b4b4f.');
  const response = await request(`keys/${encodeURIComponent(id)}`);
  const facts = await response.json(), header = name => response.headers.get(name);
  showKey({ id, etag: header('etag'), leaseEnds: header('lease-expires-at'), keyEnds: header('key-expires-at'), ...facts });
}
function showKey(next) {
  key = next;
  $('key').hidden = !key;
  $('confirm').hidden = true;
  if (!key) return;
  $('release').hidden = !key.isBlocked;
  const facts = [
    ['Key', key.id], ['State', key.isBlocked ? 'Blocked' : 'Free', key.isBlocked ? 'leased, or resting after a release' : 'for whoever asks next'],
    ['Created at', key.createdAt], ['Blocked at', key.blockedAt], ['Lease expires at', key.leaseEnds, key.leaseEnds],
    ['Key expires at', key.keyEnds, key.keyEnds], ['ETag', key.etag],
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
$('look-form').addEventListener('submit', action($('look-note'), $('look-form').querySelector('button'), () => look($('key-id').value.trim())));

/** A refusal of If-Match needs telling what became of the key. */
async function onKey(method, role) {
  try {
    await request(`keys/${encodeURIComponent(key.id)}`, { method, role, headers: fence() });
  } catch (error) {
    if (error.status === 412) error.detail += ' Look it up again to see what it is now.';
    throw error;
  }
}
$('release').addEventListener('click', action($('look-note'), $('release'), async () => {
  await onKey('PUT', 'client or admin');
  await look(key.id);
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
$('confirm-yes').addEventListener('click', action($('look-note'), $('confirm-yes'), async () => {
  await onKey('DELETE', 'admin');
  showKey(null);
  $('key-id').focus();
  return 'Deleted.';
}));

setInterval(() => {
  if (document.hidden) return;
  countDown();
  if (link.state === 'reconnecting') redraw(); // The gap grows.
}, 1000);
link.start();
