// ---- Samples, at most five minutes of them

let samples = [], sampleMs = 1000, skewMs = 0;
/** The sample before, unless some are missing in between. */
const before = i => i > 0 && samples[i].at - samples[i - 1].at <= 2.5 * sampleMs ? samples[i - 1] : null;

function take(sample) {
  // The server's clock may have been set back: what then lies in the future goes.
  if (samples.length && samples.at(-1).at >= sample.at) samples = samples.filter(old => old.at < sample.at);
  samples.push(sample);
  samples = samples.slice(-MAX_SAMPLES).filter(old => old.at > sample.at - WINDOW_MS);
  skewMs = Date.now() - sample.at;
}

// ---- Charts, drawn as SVG in pixels

const LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 20;
/** Where all charts are read, 0 to 1 from left to right; null for now. */
let cursor = null;

/** The least of 1, 2 and 5 times a power of ten that is at least `value`. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find(factor => factor * power >= value * 0.999999) * power;
}

class Chart {
  constructor(spec) {
    this.spec = spec;
    this.values = spec.series.map(() => el('b', {}, '–'));
    const legend = spec.series.map(([name, colour, , dashed], i) => {
      const swatch = coloured(el('span', { class: `swatch ${spec.stacked ? 'area' : ''} ${dashed ?? ''}` }), colour);
      return el('li', {}, swatch, name, this.values[i]);
    });
    this.plot = svg('svg', { class: 'plot', role: 'img', tabindex: '0', 'data-chart': spec.id, 'aria-label': spec.title });
    this.back = svg('g');
    this.front = svg('g');
    this.plot.append(this.back, this.front);
    const title = el('h2', {}, spec.title, ' ', el('small', {}, spec.note ?? ''));
    this.figure = el('figure', { class: `card ${spec.size}`, ...(spec.server ? { 'data-server': '' } : {}) }, title, el('ul', { class: 'legend' }, ...legend), this.plot);
    this.size();
    new ResizeObserver(() => { this.size(); redraw(); }).observe(this.plot);
    this.plot.addEventListener('pointermove', event => this.point(event));
    this.plot.addEventListener('pointerdown', event => this.point(event));
    this.plot.addEventListener('pointerleave', event => event.pointerType === 'mouse' && moveCursor(null));
    this.plot.addEventListener('blur', () => moveCursor(null));
    this.plot.addEventListener('keydown', event => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key] * (event.shiftKey ? 10 : 1) * sampleMs / WINDOW_MS;
      if (event.key === 'Escape') moveCursor(null);
      if (!step) return;
      event.preventDefault();
      moveCursor(Math.min(1, Math.max(0, (cursor ?? 1) + step)));
    });
  }

  size() {
    const box = this.plot.getBoundingClientRect();
    [this.width, this.height] = [Math.max(120, box.width), Math.max(80, box.height)];
  }

  point(event) {
    const x = event.clientX - this.plot.getBoundingClientRect().left;
    moveCursor(Math.min(1, Math.max(0, (x - LEFT) / (this.width - LEFT - RIGHT))));
  }

  /** The ends of the scale and its marks. */
  scale(rows) {
    const { log, stacked, step } = this.spec;
    const known = rows.flatMap(row => stacked ? [row.reduce((sum, value) => sum + value, 0)] : row.filter(value => value !== null && (!log || value > 0)));
    if (log) {
      const low = Math.floor(Math.log10(Math.min(...known, 1e3))), high = Math.max(low + 2, Math.ceil(Math.log10(Math.max(...known, 1))));
      return [low, high, Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i))];
    }
    const parts = this.height < 150 ? 2 : 4;
    const top = Math.max(...known, 0), mark = Math.max(nice(Math.max(top, 1e-9) / parts), top > 0 ? step ?? 0.1 : 1);
    const marks = Array.from({ length: Math.max(1, Math.ceil(top / mark - 1e-6)) + 1 }, (_, i) => i * mark);
    return [0, marks.at(-1), marks];
  }

  draw(start) {
    const { series, stacked, log, text } = this.spec;
    const [width, height] = [this.width, this.height];
    const rows = samples.map((sample, i) => series.map(([, , value]) => value(sample, before(i))));
    const [low, high, marks] = this.scale(rows);
    const x = at => LEFT + (at - start) / WINDOW_MS * (width - LEFT - RIGHT);
    const y = value => height - BOTTOM - ((log ? Math.log10(Math.max(value, 1e-3)) : value) - low) / (high - low) * (height - BOTTOM - TOP);
    Object.assign(this, { rows, x, y, ticks: [] });
    this.plot.setAttribute('viewBox', `0 0 ${width} ${height}`);
    const parts = marks.flatMap(mark => [
      svg('line', { class: mark === marks[0] ? 'grid base' : 'grid', x1: LEFT, x2: width - RIGHT, y1: y(mark), y2: y(mark) }),
      svg('text', { x: LEFT - 6, y: y(mark) + 4, 'text-anchor': 'end' }, text(mark)),
    ]);
    for (let minute = 0; minute <= 5; minute++) {
      const label = minute === 0 ? 'now' : `−${minute} min`, at = x(start + WINDOW_MS - minute * 60_000);
      if (minute % 2 && width < 420) continue;
      const [anchor, nudge] = minute === 0 ? ['end', RIGHT - 2] : minute === 5 ? ['start', -10] : ['middle', 0];
      const tick = svg('text', { x: at + nudge, y: height - 5, 'text-anchor': anchor }, label);
      this.ticks.push([tick, at]);
      parts.push(tick);
    }
    const floor = rows.map(() => 0);
    series.forEach(([, colour, , dashed], n) => {
      const runs = [];
      rows.forEach((row, i) => {
        if (row[n] === null) return;
        if (!runs.length || runs.at(-1).next !== i || !before(i)) runs.push({ points: [] });
        const bottom = floor[i], top = bottom + row[n];
        runs.at(-1).points.push([x(samples[i].at).toFixed(1), y(top).toFixed(1), y(bottom).toFixed(1)]);
        runs.at(-1).next = i + 1;
        if (stacked) floor[i] = top;
      });
      const line = runs.map(({ points }) => `M${points.map(([px, py]) => `${px},${py}`).join('L')}${points.length === 1 ? 'h.1' : ''}`).join('');
      const area = runs.map(({ points }) => `M${points.map(([px, py]) => `${px},${py}`).join('L')}L${points.toReversed().map(([px, , base]) => `${px},${base}`).join('L')}Z`).join('');
      if (!line) return;
      if (stacked) parts.push(coloured(svg('path', { class: 'area', d: area }), colour));
      else if (series.length === 1) parts.push(coloured(svg('path', { class: 'wash', d: area }), colour));
      if (!stacked) parts.push(coloured(svg('path', { class: `line ${dashed ?? ''}`, d: line }), colour));
    });
    this.back.replaceChildren(...parts);
    this.readOut(start);
  }

  /** Shows the values at the cursor, or the latest. */
  readOut(start) {
    if (!this.rows) return;
    const { series, stacked, title, text } = this.spec;
    const at = start + (cursor ?? 1) * WINDOW_MS;
    let i = samples.length - 1;
    if (cursor !== null) {
      i = samples.reduce((best, sample, j) => best < 0 || Math.abs(sample.at - at) < Math.abs(samples[best].at - at) ? j : best, -1);
      if (i >= 0 && Math.abs(samples[i].at - at) > 1.5 * sampleMs) i = -1;
    }
    const row = this.rows[i] ?? series.map(() => null);
    const values = row.map(value => value === null ? '–' : text(value));
    values.forEach((value, n) => { if (this.values[n].textContent !== value) this.values[n].textContent = value; });
    const when = cursor === null ? 'now' : `at ${clock(i < 0 ? at : samples[i].at)}`;
    this.plot.setAttribute('aria-label', `${title}, ${when}: ${series.map(([name], n) => `${name} ${values[n]}`).join(', ')}`);
    const shownAt = i < 0 ? at : samples[i].at;
    const px = Math.round(this.x(shownAt)) + .5, middle = Math.min(this.width - 30, Math.max(30, px)), bottom = this.height - BOTTOM;
    for (const [tick, tickAt] of this.ticks) tick.style.visibility = cursor !== null && Math.abs(tickAt - middle) < 62 ? 'hidden' : '';
    if (cursor === null) return this.front.replaceChildren();
    let sum = 0;
    const dots = row.flatMap((value, n) => {
      if (value === null) return [];
      sum = stacked ? sum + value : value;
      return [coloured(svg('circle', { class: 'dot', cx: px, cy: this.y(sum), r: 4 }), series[n][1])];
    });
    this.front.replaceChildren(
      svg('line', { class: 'cross', x1: px, x2: px, y1: TOP, y2: bottom }), ...dots,
      svg('rect', { class: 'flag', x: middle - 29, y: bottom + 3, width: 58, height: 16, rx: 4 }),
      svg('text', { x: middle, y: bottom + 15, 'text-anchor': 'middle' }, clock(shownAt)),
    );
  }
}
