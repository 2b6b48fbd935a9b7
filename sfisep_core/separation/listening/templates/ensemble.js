// Media elements that play as one. The browser streams each from its file, so that none is in memory
// as a whole. Their clocks start a little apart, and here they are kept in step.

const PERIOD = 60;          // ms between two looks at the clocks
const APART = 0.004;        // s from the leader at which a follower changes its speed
const TOGETHER = 0.001;     // s at which it is back at its normal speed
const GAIN = 4;             // change of speed for a second of lag
const MOST_CHANGE = 0.05;
const LOST = 0.12;          // s that speed would take too long to make up for
const SMOOTHING = 0.4;      // of a new reading: clocks are read with some jitter

class Ensemble extends EventTarget {
  #elements; #duration; #loop = null; #playing = false; #waiting = false;
  #position = 0; #turn = 0; #timer = 0; #lags = new Map();

  // duration: of the longest element, in seconds.
  constructor(elements, duration) {
    super();
    this.#elements = elements;
    this.#duration = duration;
    for (const element of elements) {
      // Speed is changed by a few percent for a moment: stretching time would be heard, pitch is not.
      element.preservesPitch = false;
      element.preload = 'auto';
      // A telephone call or an unplugged headphone stops an element: the others stop with it.
      element.addEventListener('pause', () => {
        if (this.#playing && !this.#waiting && element.paused && !element.ended) this.pause();
      });
    }
  }

  get playing() { return this.#playing; }
  get waiting() { return this.#waiting; }
  get duration() { return this.#duration; }
  get position() {
    const leader = this.#playing && !this.#waiting && this.#leader();
    return leader ? leader.currentTime : this.#position;
  }

  // A range {start, end} in seconds that is repeated; null for none.
  get loop() { return this.#loop; }
  set loop(range) { this.#loop = range; }

  play() {
    const range = this.#loop;
    let from = this.#position >= this.#duration - 0.01 ? 0 : this.#position;
    if (range && (from < range.start || from >= range.end)) from = range.start;
    return this.#start(from);
  }

  pause() {
    const position = this.position;
    this.#halt();
    this.#position = position;
    this.#playing = this.#waiting = false;
    this.#tell();
  }

  seek(position) {
    this.#position = Math.min(Math.max(position, 0), this.#duration);
    if (this.#playing) return this.#start(this.#position);
    for (const element of this.#usable()) element.currentTime = this.#position;
    this.#tell();
  }

  #usable() { return this.#elements.filter(element => !element.error); }

  // The elements that still sound at a position.
  #sounding(position) {
    return this.#usable().filter(element =>
      !element.ended && !(position >= element.duration - 0.005));
  }

  // The longest: it sounds to the end.
  #leader() {
    const length = element => element.duration || 0;
    return this.#usable().reduce(
      (first, other) => !first || length(other) > length(first) ? other : first, null);
  }

  #halt() {
    ++this.#turn;
    clearTimeout(this.#timer);
    for (const element of this.#elements) element.pause();
  }

  #tell() { this.dispatchEvent(new Event('change')); }

  // All go to a position, and start in one moment when all can.
  async #start(position) {
    this.#playing = this.#waiting = true;
    this.#halt();
    const turn = this.#turn;
    this.#position = position;
    for (const element of this.#usable()) {
      element.playbackRate = 1;
      if (Math.abs(element.currentTime - position) > 1e-4) element.currentTime = position;
    }
    let elements = this.#usable().filter(element => !(position >= element.duration - 0.005));
    if (!elements.every(isReady)) {
      this.#tell();
      // Phones load nothing, and let no script start anything, before a tap has.
      const muted = elements.map(element => element.muted);
      for (const element of elements) { element.muted = true; element.play().catch(() => {}); }
      await Promise.all(elements.map(canPlay));
      elements.forEach((element, number) => { element.muted = muted[number]; });
      if (turn !== this.#turn) return;
      for (const element of elements) {
        element.pause();
        if (Math.abs(element.currentTime - position) > 1e-4) element.currentTime = position;
      }
      await Promise.all(elements.map(canPlay));
      if (turn !== this.#turn) return;
      elements = elements.filter(element => !element.error);
    }
    const started = elements.map(element => element.play());
    try {
      await Promise.all(started);
    } catch (error) {
      if (turn === this.#turn) {
        this.pause();
        this.dispatchEvent(new CustomEvent('refused', { detail: error }));
      }
      return;
    }
    if (turn !== this.#turn) return;
    this.#waiting = false;
    this.#lags.clear();
    this.#tell();
    this.#watch();
  }

  #watch() {
    const leader = this.#leader();
    if (!leader) return this.pause();
    const now = leader.currentTime;
    if (this.#loop && (leader.ended || now >= this.#loop.end - 0.002))
      return void this.#start(this.#loop.start);
    if (leader.ended) {
      this.#halt();
      this.#position = this.#duration;
      this.#playing = false;
      return this.#tell();
    }
    const followers = this.#sounding(now).filter(element => element !== leader);
    const lost = element => Math.abs(now - element.currentTime) > LOST;
    if ([leader, ...followers].some(element => element.readyState < 3) || followers.some(lost))
      return void this.#start(now);
    for (const element of followers) this.#adjust(element, now - element.currentTime);
    const left = this.#loop ? 1000 * (this.#loop.end - now) : PERIOD;
    this.#timer = setTimeout(() => this.#watch(), Math.max(0, Math.min(PERIOD, left)));
  }

  #adjust(element, lag) {
    const before = this.#lags.get(element) ?? lag;
    const mean = before + SMOOTHING * (lag - before);
    this.#lags.set(element, mean);
    const turned = element.playbackRate !== 1;
    if (Math.abs(mean) < (turned ? TOGETHER : APART)) {
      if (turned) element.playbackRate = 1;
      return;
    }
    element.playbackRate = 1 + Math.min(Math.max(GAIN * mean, -MOST_CHANGE), MOST_CHANGE);
  }
}

function isReady(element) { return !element.seeking && element.readyState >= 3; }

// Wait until an element can play on from where it is, or has an error.
function canPlay(element) {
  return new Promise(go => {
    const events = ['canplay', 'seeked', 'loadeddata', 'error', 'ended'];
    const look = () => {
      if (!isReady(element) && !element.error && !element.ended) return;
      for (const name of events) element.removeEventListener(name, look);
      go();
    };
    for (const name of events) element.addEventListener(name, look);
    look();
  });
}
