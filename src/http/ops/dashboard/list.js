
// ---- The list of keys, a page at a time

// How many keys a page has, and how many requests it may take: where few keys are in a state, answers have few or none.
const KEYS_A_PAGE = 50, ASKS_A_PAGE = 40;
/** What is listed: the filters as they were, the cursor of the next page, and how many keys were before. */
let listing = null, listAborter = null;

function moment(at) {
  if (!at) return '–';
  const date = new Date(at), day = date.toLocaleDateString('sv');
  return el('time', { datetime: at, title: at }, day === new Date().toLocaleDateString('sv') ? clock(date) : `${day} ${clock(date)}`);
}
function keyRow(one) {
  const cell = (label, attributes, ...children) => el('td', { role: 'cell', 'data-label': label, ...attributes }, ...children);
  const labels = Object.entries(one.labels).map(([name, value]) => el('span', { class: 'tag' }, `${name}:${value}`));
  return el('tr', { role: 'row' },
    cell('Key', {}, el('code', { class: 'mono' }, one.keyId)),
    cell('State', { class: 'state' }, el('span', {}, coloured(el('i', { class: 'swatch' }), one.state), one.state)),
    cell('Holder', { class: 'holder' }, one.holder ?? '–'),
    cell('Since', {}, moment(one.blockedAt)), cell('Until', {}, moment(one.leaseExpiresAt)),
    cell('Leases', { class: 'number' }, whole.format(one.leases)),
    cell('Labels', {}, labels.length ? el('div', {}, ...labels) : '–'),
    cell('', { class: 'tools' }, el('div', {}, copyButton(one.keyId, one.keyId), lookButton(one.keyId))));
}
const HEADS = ['Key', 'State', 'Holder', 'Since', 'Until', 'Leases', 'Labels', ''].map(name => el('th', { role: 'columnheader', scope: 'col' }, name));
function showList(keys) {
  $('list').hidden = !keys.length;
  $('list').replaceChildren(...(keys.length ? [el('table', { role: 'table', 'aria-labelledby': 'list-title' },
    el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, ...HEADS)), el('tbody', { role: 'rowgroup' }, ...keys.map(keyRow)))] : []));
}
function forgetList() {
  listAborter?.abort();
  listing = null;
  showList([]);
  $('list-pages').hidden = true;
  say($('list-note'), '', '');
}
forgets.push(forgetList);

/** Shows the page behind `from.cursor`. A newer call takes the place of one that still asks. */
async function listKeys(from) {
  listAborter?.abort();
  const { signal } = listAborter = new AbortController(), at = pool;
  say($('list-note'), '', 'Asking …');
  try {
    const keys = [];
    let { cursor } = from;
    for (let asked = 0; asked < ASKS_A_PAGE && keys.length < KEYS_A_PAGE && cursor !== null; asked++) {
      const query = new URLSearchParams({ ...from.filters, limit: KEYS_A_PAGE - keys.length, ...(cursor ? { cursor } : {}) });
      const answer = await (await request(`pools/${at}/inventory?${query}`, { role: 'admin', signal })).json();
      keys.push(...answer.keys);
      ({ cursor } = answer);
    }
    if (signal.aborted) return;
    listing = { filters: from.filters, cursor, before: from.before + keys.length };
    showList(keys);
    const focused = document.activeElement, buttons = [$('list-next'), $('list-first')];
    [$('list-next').hidden, $('list-first').hidden] = [cursor === null, !from.cursor];
    $('list-pages').hidden = buttons.every(button => button.hidden);
    // The focus stays on a button that can be used.
    if (buttons.includes(focused) && focused.hidden) (buttons.find(button => !button.hidden) ?? $('list-form').querySelector('button')).focus();
    say($('list-note'), '', wordsOfList(from, keys.length, cursor));
  } catch (error) {
    if (signal.aborted) return;
    forgetList();
    say($('list-note'), 'bad', error.title ?? String(error), error.detail);
  }
}
function wordsOfList({ before, filters }, count, cursor) {
  const such = Object.keys(filters).length ? 'such keys' : 'keys';
  if (!count && cursor !== null) return `No ${such} so far. The pool is large: the next page looks on.`;
  if (!count) return before ? `No more ${such}.` : `There are no ${such} in this pool.`;
  const range = !before && cursor === null ? keysOf(count)
    : count === 1 ? `Key ${whole.format(before + 1)}` : `Keys ${whole.format(before + 1)} to ${whole.format(before + count)}`;
  return `${range}, in no particular order${before && cursor === null ? '; these are the last ones' : ''}.`;
}
function filters() {
  const [state, label] = [$('list-state').value, $('list-label').value.trim()];
  return { ...(state && { state }), ...(label && { label }) };
}
const listFirst = () => listKeys({ filters: filters(), cursor: '', before: 0 });
$('list-form').addEventListener('submit', event => { event.preventDefault(); listFirst(); });
for (const id of ['list-state', 'list-label']) $(id).addEventListener('change', listFirst);
$('list-next').addEventListener('click', () => listKeys(listing));
$('list-first').addEventListener('click', () => listFirst());
