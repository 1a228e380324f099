// ---- What is shown: a number's path in a sample is its `data-stat`; those of `stats` are named without it. What is of the
// whole server, and not of the chosen pool, is not in a sample for a token that is for some pools only.

/** Whether a number is of the whole server. */
const isOfServer = path => ['requests', 'connections', 'residentBytes', 'sweepLagMs'].includes(path);
const read = (sample, path) => path.split('.').reduce((value, name) => value?.[name], path.split('.')[0] in sample ? sample : sample.stats);
const of = path => sample => read(sample, path) ?? null;
/** How much a total grew per second; nothing over a gap, or if the server began anew in between. */
const growth = path => (sample, before) => {
  const grown = before ? read(sample, path) - read(before, path) : -1;
  return !(grown >= 0) ? null : grown * 1000 / (sample.at - before.at);
};

const TILES = [
  ['keys', 'Keys', null, s => `${count(read(s, 'totals.created'))} created so far`],
  ['free', 'Free', 'free', s => share(s.stats.free, s.stats.keys)],
  ['blocked', 'Blocked', 'blocked', s => share(s.stats.blocked, s.stats.keys)],
  ['cooling', 'Cooling', 'cooling', s => share(s.stats.cooling, s.stats.keys)],
  ['waiting', 'Waiting', null, () => 'requests for a key'],
  ['requests', 'Server requests', null, (s, before) => before ? `${rate(growth('requests')(s, before) ?? 0)} per second` : 'in all pools'],
];
const COUNTS = [
  ['Keys since the start', ['totals.created', 'created'], ['totals.expired', 'expired'], ['totals.deleted', 'deleted']],
  ['Leases since the start', ['totals.leased', 'begun'], ['totals.released', 'released'], ['totals.leaseTimeouts', 'timed out'],
    ['totals.leasesLost', 'lost with keys'], ['totals.staleRefusals', 'refused by If-Match']],
  ['Indexes, entries', ['lifeEntries', 'lives'], ['blockEntries', 'leases and cool-downs'], ['staleHints', 'stale hints']],
  ['Server process', ['connections', 'connections'], ['residentBytes', 'memory, bytes'], ['sweepLagMs', 'sweep lag, ms']],
];
const CHARTS = [
  { id: 'keys', title: 'Keys', size: 'half', stacked: true, text: count, step: 1,
    series: [['Blocked', 'blocked', of('blocked')], ['Cooling', 'cooling', of('cooling')], ['Free', 'free', of('free')]] },
  { id: 'rates', title: 'Per second', size: 'half', text: rate,
    series: [['Leases', 'blocked', growth('totals.leased')], ['Releases', 'free', growth('totals.released')],
      ['Timeouts', 'cooling', growth('totals.leaseTimeouts')], ['Expiries', 'expired', growth('totals.expired'), 'dashed']] },
  { id: 'latency', server: true, title: 'Latency', note: 'of all pools, of requests that do not wait, log scale', size: 'half', text: micros, log: true,
    series: [['p50', 'step1', of('latencyUs.p50')], ['p90', 'step2', of('latencyUs.p90')], ['p99', 'step3', of('latencyUs.p99')], ['p99.9', 'step4', of('latencyUs.p999')]] },
  { id: 'requests', server: true, title: 'Requests per second', note: 'of all pools', size: 'half', text: rate, series: [['Requests', 'blocked', growth('requests')]] },
  { id: 'waiting', title: 'Waiting requests', size: 'quarter', text: count, step: 1, series: [['Waiting', 'blocked', of('waiting')]] },
  { id: 'lag', server: true, title: 'Sweep lag', note: 'of the server', size: 'quarter', text: millis, series: [['Lag', 'blocked', of('sweepLagMs')]] },
  { id: 'memory', server: true, title: 'Memory', note: 'of the server', size: 'quarter', text: mebibytes, series: [['Resident', 'blocked', s => s.residentBytes == null ? null : s.residentBytes / 2 ** 20]] },
  { id: 'connections', server: true, title: 'Connections', note: 'of the server', size: 'quarter', text: count, step: 1, series: [['Open', 'blocked', of('connections')]] },
];
