// Window and level: which values become the first and the last colour, and the histogram that shows them.

import { el, say } from "./dom.js";
import * as words from "./words.js";

export const MODES = { full: "Full range", auto: "Minimum to maximum", percentile: "1 % to 99 %", fixed: "Fixed" };

/** The whole range of values: what attrs say, or what the dtype can have. */
function fullRange(schema, header) {
  if (schema.range?.length === 2 && schema.range.every(Number.isFinite)) return schema.range;
  if (String(schema.dtype).endsWith("b1")) return [0, 1];
  return { "|u1": [0, 255], "<u2": [0, 65535] }[header.dtype] ?? header.levels;
}

/** How a ring is shown before anybody chose: bytes as they are, all else by its values. */
export function firstMode(schema, header) {
  return header.dtype === "|u1" || Array.isArray(schema.range) ? "full" : "percentile";
}

/** The lowest and highest value shown: [low, high]. */
export function levels(mode, fixed, schema, header) {
  if (mode === "fixed" && fixed) return fixed;
  const whole = fullRange(schema, header);
  // Where all values are alike, the next wider span: a saturated picture is not black.
  const spans = { auto: [header.levels, whole], percentile: [header.percentiles, header.levels, whole] }[mode] ?? [whole];
  const found = spans.find((span) => span && span[0] < span[1]) ?? whole;
  return found?.every(Number.isFinite) ? found : [0, 1];
}

export class Histogram {
  /** `choose(low, high)` is called while a handle is dragged. */
  constructor(choose) {
    this.canvas = el("canvas.bars", { role: "img", "aria-label": "Histogram of the values" });
    this.lowest = el("span");
    this.highest = el("span");
    this.element = el("div.histogram", {}, this.canvas, el("div.ends", {}, this.lowest, this.highest));
    this.choose = choose;
    this.canvas.addEventListener("pointerdown", (event) => this.grab(event));
  }

  grab(event) {
    if (!this.shown) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    const start = this.valueAt(event);
    const nearerLow = Math.abs(start - this.shown.low) <= Math.abs(start - this.shown.high);
    const move = (moved) => {
      const { low, high } = this.shown;
      const value = this.valueAt(moved);
      if (nearerLow) this.choose(Math.min(value, high), high);
      else this.choose(low, Math.max(value, low));
    };
    move(event);
    this.canvas.onpointermove = move;
    this.canvas.onpointerup = () => (this.canvas.onpointermove = null);
  }

  valueAt(event) {
    const { left, width } = this.canvas.getBoundingClientRect();
    const [first, last] = this.shown.range;
    const value = first + Math.min(Math.max((event.clientX - left) / width, 0), 1) * (last - first);
    return this.shown.whole ? Math.round(value) : Number(value.toPrecision(4));
  }

  show(header, low, high) {
    const range = header.range ?? header.levels ?? [0, 1];
    this.shown = { range, low, high, whole: !String(header.dtype).includes("f") };
    const ratio = window.devicePixelRatio || 1;
    const { canvas } = this;
    const width = Math.max(Math.round(canvas.clientWidth * ratio), 1);
    const height = Math.max(Math.round(canvas.clientHeight * ratio), 1);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    pen.clearRect(0, 0, width, height);
    const counts = header.histogram ?? [];
    const most = Math.sqrt(Math.max(...counts, 1)); // the root: rare values are seen beside frequent ones
    const column = width / (counts.length || 1);
    pen.fillStyle = style.getPropertyValue("--bar");
    counts.forEach((number, index) => {
      const tall = number ? Math.max((Math.sqrt(number) / most) * (height - 2 * ratio), ratio) : 0;
      pen.fillRect(index * column, height - tall, Math.max(column, 1), tall);
    });
    const [first, last] = range;
    const position = (value) => Math.min(Math.max((value - first) / (last - first || 1), 0), 1) * (width - 2 * ratio);
    pen.fillStyle = style.getPropertyValue("--accent");
    pen.globalAlpha = 0.12;
    pen.fillRect(position(low), 0, position(high) - position(low), height);
    pen.globalAlpha = 1;
    for (const value of [low, high]) pen.fillRect(position(value), 0, 2 * ratio, height);
    say(this.lowest, words.short(first));
    say(this.highest, words.short(last));
  }
}
