// What came with a frame: its meta, as a table of names and values.

import { el, say } from "./dom.js";
import * as words from "./words.js";

export class Meta {
  constructor() {
    this.rows = el("tbody");
    this.cells = [];
    this.element = el("section.meta", { hidden: true, "aria-label": "Meta of the frame" },
      el("h3", {}, "Meta"), el("table", {}, this.rows));
  }

  /** Shows a value, or the fields of one; null: there is none. */
  show(meta) {
    this.element.hidden = meta === null;
    if (meta === null) return;
    const fields = typeof meta === "object" && !Array.isArray(meta) ? Object.entries(meta) : [["value", meta]];
    const names = fields.map(([name]) => name).join("\n");
    if (names !== this.names) {
      this.names = names;
      this.cells = fields.map(() => el("td"));
      this.rows.replaceChildren(...fields.map(([name], index) => el("tr", {}, el("th", { scope: "row" }, name), this.cells[index])));
    }
    fields.forEach(([, value], index) => say(this.cells[index], words.nested(value)));
  }
}
