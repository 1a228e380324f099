// ---- The stream

/** Reads server-sent events from text that may be cut anywhere; calls `on(event, data)` for each. */
function eventParser(on) {
  let rest = '', afterCr = false, event = '', data = [];
  const line = text => {
    if (text === '') {
      if (data.length) on(event || 'message', data.join('\n'));
      [event, data] = ['', []];
      return;
    }
    const colon = text.indexOf(':');
    const [name, value] = colon < 0 ? [text, ''] : [text.slice(0, colon), text.slice(colon + 1).replace(/^ /, '')];
    if (name === 'event') event = value;
    if (name === 'data') data.push(value); // A comment has no name, and is none of these.
  };
  return text => {
    if (text === '') return;
    // The line feed of a CR LF that was cut apart ends no second line.
    if (afterCr && text[0] === '\n') text = text.slice(1);
    afterCr = text === '' ? false : text.endsWith('\r');
    const lines = (rest + text).split(/\r\n|\r|\n/);
    rest = lines.pop();
    if (rest.length > 4 << 20) throw new Refusal(0, 'The server sent a line without end');
    lines.forEach(line);
  };
}

const link = {
  state: 'connecting', aborter: null, wake: () => {},

  show(state, text) {
    this.state = state;
    $('state').dataset.state = state;
    if ($('state').textContent !== text) $('state').textContent = text;
    document.body.classList.toggle('stale', state !== 'live' && state !== 'connecting');
    $('pause').textContent = state === 'stopped' ? 'Resume' : 'Pause';
    $('forget').hidden = !sessionStorage.getItem(TOKEN);
    redraw();
  },

  stop(why = 'Stopped') {
    this.aborter?.abort();
    this.show('stopped', why);
  },

  /** Follows the stream until `stop`, or until the server wants another token. */
  async start() {
    this.aborter?.abort();
    const { signal } = this.aborter = new AbortController();
    this.show('connecting', 'Connecting');
    for (let attempt = 0, since = null; !signal.aborted; attempt++) {
      try {
        await this.follow(signal, () => { attempt = 0; since = null; });
      } catch (error) {
        if (signal.aborted) return;
        if (['/problems/no-such-pool', '/problems/forbidden-pool'].includes(error.type)) askForPool(error);
        if ([401, 403].includes(error.status) || error.type === '/problems/no-such-pool') return this.stop(`Stopped: ${error.title}`);
        this.why = error.status ? error.title : '';
      }
      if (signal.aborted) return;
      since ??= clock(Date.now());
      this.show('reconnecting', `Reconnecting since ${since}${this.why ? `: ${this.why}` : ''}`);
      // Twice as long each time, up to ten seconds, and not all pages at once.
      await this.sleep(Math.min(10_000, 500 * 2 ** attempt) * (0.75 + Math.random() / 2), signal);
    }
  },

  async follow(signal, begun) {
    this.why = '';
    const silence = new AbortController();
    let timer;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), Math.max(SILENCE_MS, 5 * sampleMs));
    };
    heard();
    try {
      const response = await request(`dashboard/events?pool=${pool}`, { role: 'client, admin or metrics', signal: AbortSignal.any([signal, silence.signal]) });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const parse = eventParser((event, data) => this.on(event, JSON.parse(data), begun));
      for (;;) {
        const { done, value } = await reader.read();
        if (done || signal.aborted) return;
        heard();
        parse(value);
      }
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
  },

  on(event, data, begun) {
    if (event === 'hello') {
      sampleMs = Number(data.sampleMs) || 1000;
      $('version').textContent = data.version;
      $('choose').hidden = true;
      listPools();
    }
    if (event === 'history') data.slice(-MAX_SAMPLES).forEach(take);
    if (event === 'sample') take(data);
    if (event === 'sample' || event === 'history') {
      begun();
      if (this.state === 'live') redraw();
      else this.show('live', 'Live');
    }
  },

  sleep(ms, signal) {
    return new Promise(resolve => {
      this.wake = resolve;
      setTimeout(resolve, ms);
      signal.addEventListener('abort', resolve, { once: true });
    });
  },
};
$('pause').addEventListener('click', () => link.state === 'stopped' ? link.start() : link.stop());
addEventListener('online', () => link.wake());
document.addEventListener('visibilitychange', () => document.hidden || link.wake());
