
// ---- Importing values, and taking back leases

const IMPORT_KEYS_MAX = 100_000, IMPORT_BYTES_MAX = 4_000_000, LABELS_MAX = 8, LABEL_CHARS_MAX = 63;

/** The labels that a text names, such as `plan:pro, region:eu`. */
function readLabels(text) {
  const labels = new Map();
  for (const part of text.split(',').map(one => one.trim()).filter(Boolean)) {
    const colon = part.indexOf(':'), [name, value] = [part.slice(0, colon).trim(), part.slice(colon + 1).trim()];
    const isLabel = colon > 0 && [name, value].every(one => one && [...one].length <= LABEL_CHARS_MAX);
    if (!isLabel) throw new Refusal(0, 'A label is malformed', `Nothing was imported. A label is a name, a colon and a value, with up to ${LABEL_CHARS_MAX} characters each, such as plan:pro, and not “${part.slice(0, 80)}”.`);
    if (labels.has(name)) throw new Refusal(0, 'A label is given twice', `Nothing was imported. Give the label ${name} once.`);
    labels.set(name, value);
  }
  if (labels.size > LABELS_MAX) throw new Refusal(0, 'There are too many labels', `Nothing was imported. A key may have ${LABELS_MAX} labels.`);
  return Object.fromEntries(labels);
}

/** Bodies that import the values of a text, each with the lines that its keys come from. */
function* importBodies(text, labels) {
  const encoder = new TextEncoder(), end = Object.keys(labels).length ? `,"labels":${JSON.stringify(labels)}}` : '}';
  let keys = [], lines = [], bytes = 0;
  const body = () => ({ body: `{"keys":[${keys.join(',')}]}`, lines });
  for (const [i, line] of text.split(/\r\n|\r|\n/).entries()) {
    const value = line.trim();
    if (!value) continue;
    const key = `{"value":${JSON.stringify(value)}${end}`, length = encoder.encode(key).length + 1;
    if (keys.length === IMPORT_KEYS_MAX || keys.length && bytes + length > IMPORT_BYTES_MAX) {
      yield body();
      [keys, lines, bytes] = [[], [], 0];
    }
    keys.push(key);
    lines.push(i + 1);
    bytes += length;
  }
  if (keys.length) yield body();
}

const wordsOfImport = (isNew, known) => `${keysOf(isNew)} ${isNew === 1 ? 'is' : 'are'} new${known ? `, and ${whole.format(known)} ${known === 1 ? 'was' : 'were'} in the pool already` : ''}.`;
$('import-form').addEventListener('submit', action($('import-note'), $('import-form').querySelector('button'), async at => {
  const text = $('values').value, labels = readLabels($('import-labels').value);
  let isNew = 0, known = 0;
  for (const { body, lines } of importBodies(text, labels)) {
    try {
      const response = await request(inPool('keys', at), { method: 'POST', role: 'admin', headers: { 'Content-Type': 'application/json' }, body });
      const fresh = Number(response.headers.get('keys-created'));
      [isNew, known] = [isNew + fresh, known + lines.length - fresh];
      await response.arrayBuffer();
      say($('import-note'), '', `Importing into ${at} … So far, ${wordsOfImport(isNew, known)}`);
    } catch (error) {
      // The server counts the keys of a request from 0 on; people count lines of the text.
      const detail = error.detail?.replace(/^Nothing was imported, because keys\[(\d+)\] is invalid/, (_, n) => `Line ${whole.format(lines[n])} is invalid`);
      const isSure = error.status && error.type !== '/problems/unavailable';
      const before = isNew + known ? `Before it, ${keysOf(isNew + known)} were imported: ${wordsOfImport(isNew, known)}` : isSure ? 'Nothing was imported.' : '';
      throw new Refusal(error.status, error.title ?? String(error), `${detail ?? ''} ${before} All can be imported again: what is in the pool is not added twice.`.trim());
    }
  }
  if (!isNew && !known) throw new Refusal(0, 'There is no value', 'Write one value a line.');
  // What was pasted meanwhile for another pool stays.
  if ($('values').value === text) $('values').value = '';
  if (pool === at) $('values').focus();
  return wordsOfImport(isNew, known);
}));

/** Whose leases are to end, as it was when that was asked for. */
let taken = '';
function askTake(holder) {
  taken = holder;
  $('take-confirm').hidden = !holder;
  if (!holder) return;
  $('take-confirm-text').textContent = `End all leases of ${holder} in the pool ${pool}?`;
  $('take-no').focus();
}
forgets.push(() => askTake(''));
$('take-form').addEventListener('submit', event => {
  event.preventDefault();
  say($('take-note'), '', '');
  askTake($('holder').value.trim());
});
$('take-no').addEventListener('click', () => {
  askTake('');
  $('holder').focus();
});
$('take-yes').addEventListener('click', action($('take-note'), $('take-yes'), async at => {
  const holder = taken;
  const { released } = await (await request(inPool(`leases?${new URLSearchParams({ holder })}`, at), { method: 'DELETE', role: 'admin' })).json();
  if (pool === at) {
    askTake('');
    $('holder').focus();
  }
  return released ? `Ended ${whole.format(released)} ${released === 1 ? 'lease' : 'leases'} of ${holder}.` : `${holder} holds no key of this pool, so no lease has ended.`;
}));
