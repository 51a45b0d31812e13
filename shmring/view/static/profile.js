// The values along a line through the picture.

import { el } from "./dom.js";
import { Plot, colour } from "./plots.js";

const RGB = { rgb: ["#e5484d", "#1f9d55", "#2f7de1"], bgr: ["#2f7de1", "#1f9d55", "#e5484d"] };

const finite = (number) => (Number.isFinite(number) ? number : null);

export class Profile {
  constructor(host) {
    this.host = host;
    this.active = false;
    this.from = this.to = null; // [x, y]
    this.asked = null; // the line that the server was asked for
    this.chart = el("div.plot.profile", { role: "img", "aria-label": "Values along the line" });
    this.element = el("div", { hidden: true }, this.chart);
  }

  toggle() {
    this.active = !this.active;
    this.element.hidden = !this.active;
  }

  /** A first line, through the middle. */
  across([height, width]) {
    this.from ??= [0, Math.floor(height / 2)];
    this.to ??= [width - 1, Math.floor(height / 2)];
    this.ask();
  }

  begin(pixel) {
    this.from = this.to = pixel;
  }

  end(pixel) {
    this.to = pixel;
    this.ask();
  }

  /** The two pixels of the line that is shown, or null. */
  get line() {
    return this.active && this.to ? [this.from, this.to] : null;
  }

  ask() {
    if (!this.active || !this.to || this.asked) return;
    this.asked = [this.from, this.to];
    this.host.send({ type: "profile", from: this.from.toReversed(), to: this.to.toReversed() });
  }

  answer({ distance, values }) {
    const [from, to] = this.asked;
    this.asked = null;
    if (from !== this.from || to !== this.to) this.ask();
    if (!this.active || !distance?.length) return;
    if (this.plot?.lines !== values.length) {
      this.plot?.destroy();
      const colours = RGB[String(this.host.schema.colour).slice(0, 3)];
      const series = values.map((_, index) => ({ stroke: colours?.[index] ?? colour(index) }));
      this.plot = new Plot(this.chart, { series, x: "pixels along the line" });
      this.plot.lines = values.length;
    }
    this.plot.show([distance, ...values.map((row) => row.map(finite))]);
  }

  destroy() {
    this.plot?.destroy();
  }
}
