// ---- Drawing: at most once a frame, and not while nobody looks

const charts = CHARTS.map(spec => new Chart(spec));
const shown = [];
function stat(path, tag, attributes = {}) {
  const element = el(tag, { 'data-stat': path, ...attributes }, '–');
  shown.push(element);
  return element;
}
const subs = TILES.map(() => el('div', { class: 'sub' }, '\u00a0'));
$('tiles').replaceWith(...TILES.map(([path, label, colour], i) => el('div', { class: 'card tile', ...(isOfServer(path) ? { 'data-server': '' } : {}) },
  el('div', { class: 'label' }, ...(colour ? [coloured(el('span', { class: 'swatch' }), colour)] : []), label),
  stat(path, 'span', { class: 'big' }), subs[i])));
$('charts').replaceWith(...charts.map(chart => chart.figure));
$('counts').replaceWith(...COUNTS.map(([title, ...rows]) => el('section', { class: 'card quarter', ...(isOfServer(rows[0][0]) ? { 'data-server': '' } : {}) },
  el('h2', {}, title), el('dl', {}, ...rows.flatMap(([path, label]) => [el('dt', {}, label), stat(path, 'dd')])))));

let planned = false;
const windowStart = () => (link.state === 'live' || !samples.length ? samples.at(-1)?.at ?? Date.now() : Date.now() - skewMs) - WINDOW_MS;
function redraw() {
  if (planned || document.hidden) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    const last = samples.at(-1), start = windowStart();
    document.body.classList.toggle('one-pool', Boolean(last) && !('requests' in last));
    for (const element of shown) {
      const value = last && read(last, element.dataset.stat), text = value == null ? '–' : whole.format(value);
      element.dataset.value = value ?? '';
      if (element.textContent !== text) element.textContent = text;
      element.style.setProperty('--digits', Math.max(5, text.length));
    }
    subs.forEach((sub, i) => { sub.textContent = last ? TILES[i][3](last, before(samples.length - 1)) : '\u00a0'; });
    document.body.dataset.samples = samples.length;
    document.body.dataset.at = last?.at ?? '';
    for (const chart of charts) chart.draw(start);
  });
}
function moveCursor(to) {
  if (cursor === to) return;
  cursor = to;
  const start = windowStart();
  for (const chart of charts) chart.readOut(start);
}
document.addEventListener('visibilitychange', redraw);
document.addEventListener('pointerdown', event => event.target.closest('.plot') || moveCursor(null));
