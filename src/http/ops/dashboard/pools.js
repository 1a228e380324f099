
// ---- The chosen pool: its name is in the address of the page

const DEFAULT = 'default', POOLS_A_PAGE = 1000, POOLS_MAX = 10_000, POOLS_FRESH_MS = 10_000;
const IS_POOL = /^[a-z0-9][a-z0-9._-]{0,62}$/;
let pool = DEFAULT;
/** The path of a request about a pool. */
const inPool = (path, of) => of === DEFAULT ? path : `pools/${of}/${path}`;
const poolOfAddress = () => new URLSearchParams(location.search).get('pool') || DEFAULT;

/** Shows a pool from now on. What was shown of the one before goes. */
function choose(name) {
  $('choose').hidden = true;
  samples = [];
  for (const forget of forgets) forget();
  if (!IS_POOL.test(name)) {
    link.stop('Stopped: No such pool');
    askForPool({ title: 'The address of this page names no pool', detail: 'A pool has lower-case letters, digits, dots, underscores and hyphens in its name.' });
    return;
  }
  pool = name;
  document.title = name === DEFAULT ? 'Token Orchestrator' : `${name} · Token Orchestrator`;
  for (const element of document.querySelectorAll('[data-pool]')) element.textContent = name;
  showPools();
  link.start();
}
/** The same, as a step that the browser can go back. */
function goTo(name) {
  history.pushState(null, '', name === DEFAULT ? location.pathname : `?pool=${name}`);
  choose(name);
}
/** What each part of the page does when another pool is chosen. */
const forgets = [
  () => showKey(null), () => showCreated([]),
  () => { for (const note of document.querySelectorAll('form ~ .note')) if (!note.closest('#auth')) say(note, '', ''); },
];
$('pool').addEventListener('change', () => goTo($('pool').value));
addEventListener('popstate', () => poolOfAddress() === pool && $('choose').hidden || choose(poolOfAddress()));

/** Why the chosen pool cannot be shown, and a way to another one. */
function askForPool({ title, detail, type }) {
  const isGone = type === '/problems/no-such-pool';
  $('choose-title').textContent = isGone ? `There is no pool ${pool}` : title;
  $('choose-why').textContent = isGone ? 'It was deleted, with its keys and their leases, or it never existed.' : detail;
  $('choose-name').value = type === '/problems/forbidden-pool' ? '' : DEFAULT;
  $('choose').hidden = false;
}
$('choose-form').addEventListener('submit', event => {
  event.preventDefault();
  goTo($('choose-name').value.trim());
  $('pool').focus();
});

// ---- The pools that can be chosen

let pools = [DEFAULT], poolsAt = -Infinity;
function showPools() {
  const names = pools.includes(pool) ? pools : [pool, ...pools];
  const options = $('pool').options;
  if (names.length !== options.length || names.some((name, i) => options[i].value !== name)) {
    $('pool').replaceChildren(...names.map(name => el('option', {}, name)));
  }
  $('pool').value = pool;
}
/** Asks which pools there are. With a token for some pools the server does not tell. */
async function listPools() {
  poolsAt = performance.now();
  const found = [];
  let cursor = '';
  try {
    do {
      const answer = await (await request(`pools?limit=${POOLS_A_PAGE}${cursor && `&cursor=${cursor}`}`, { role: 'client, admin or metrics' })).json();
      found.push(...answer.pools.map(one => one.pool));
      ({ cursor } = answer);
    } while (cursor && found.length < POOLS_MAX);
    pools = [DEFAULT, ...found.filter(name => name !== DEFAULT)];
    notePools(cursor ? `The first ${whole.format(POOLS_MAX)} pools can be chosen here. Any other can be shown with ?pool= and its name in the address of this page.` : '');
  } catch (error) {
    if (error.status === 403) {
      pools = [pool];
      notePools('The token is for some pools only, so the numbers of the whole server are not shown. Another pool can be shown with ?pool= and its name in the address of this page.');
    }
    // Without an answer, the pools stay as they were; the stream says what is wrong.
  }
  showPools();
}
function notePools(text) {
  $('pool-note').hidden = !text;
  if ($('pool-note').textContent !== text) $('pool-note').textContent = text;
}
$('pool').addEventListener('focus', () => link.state === 'live' && performance.now() - poolsAt > POOLS_FRESH_MS && listPools());
