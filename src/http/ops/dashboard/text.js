'use strict';
// Ids that are shown of those just created, and how long the stream may be silent before it counts as broken.
const WINDOW_MS = 300_000, MAX_SAMPLES = 300, SHOWN_IDS = 100, SILENCE_MS = 6_000, TOKEN = 'token-orchestrator-token';
const $ = id => document.getElementById(id);

/** An HTML element. Children that are text stay text. */
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}
function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);
}
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}
function coloured(element, colour) {
  element.style.setProperty('--colour', `var(--${colour})`);
  return element;
}

// ---- Numbers as text

const whole = new Intl.NumberFormat('en'), compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const significant = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
const count = value => value < 100_000 ? whole.format(value) : compact.format(value);
const rate = value => value < 9.95 ? String(Math.round(value * 10) / 10) : count(Math.round(value));
const mebibytes = value => value < 1024 ? `${significant.format(value)} MiB` : `${significant.format(value / 1024)} GiB`;
const micros = value => value < 1e3 ? `${significant.format(value)} µs` : value < 1e6 ? `${significant.format(value / 1e3)} ms` : `${significant.format(value / 1e6)} s`;
const millis = value => value > 0 ? micros(value * 1e3) : '0 ms';
const clock = at => new Date(at).toLocaleTimeString('en-GB');
const share = (part, of) => of > 0 ? `${(100 * part / of).toFixed(1)} % of keys` : 'no keys';
