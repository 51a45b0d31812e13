// How fast frames are shown, how late, and how many were skipped: measured by the page itself.

const KEPT = 120; // frames
const FORGOTTEN = 2000; // ms

export class Pace {
  constructor() {
    this.times = [];
    this.delays = [];
    this.skipped = 0;
    this.count = 0;
    this.seq = null;
  }

  /** Milliseconds since 1970, as precise as the browser allows. */
  static now() {
    return performance.timeOrigin + performance.now();
  }

  drawn({ header }) {
    if (header.seq === this.seq) return; // another view of the same frame
    this.seq = header.seq;
    const now = Pace.now();
    this.began ??= now;
    this.count += 1;
    this.skipped += header.skipped ?? 0;
    this.times.push(now);
    while (this.times.length > KEPT || now - this.times[0] > FORGOTTEN) this.times.shift();
    const onTheWay = now - header.now_ns / 1e6;
    // A server with another clock: what can be known is only how long the frame waited there.
    const delay = header.age_ns / 1e6 + (onTheWay >= 0 && onTheWay < 10_000 ? onTheWay : 0);
    if (header.age_ns === null || !Number.isFinite(delay)) return;
    this.delays.push(delay);
    if (this.delays.length > KEPT) this.delays.shift();
  }

  get rate() {
    const { times } = this;
    const now = Pace.now();
    if (times.length < 2 || now - times.at(-1) > FORGOTTEN) return 0;
    return ((times.length - 1) * 1000) / (times.at(-1) - times[0]);
  }

  /** Frames per second since the first one. */
  get mean() {
    return this.count > 1 ? ((this.count - 1) * 1000) / (this.times.at(-1) - this.began) : 0;
  }

  /** The median of the last delays in milliseconds, null before the first. */
  get latency() {
    if (!this.delays.length) return null;
    return this.delays.toSorted((a, b) => a - b)[this.delays.length >> 1];
  }
}
