// The body of a panel that shows anything else: fields and values in a table.

import { el, say } from "./dom.js";
import * as words from "./words.js";

export class TableView {
  constructor(host) {
    this.host = host;
    this.head = el("tr");
    this.body = el("tbody");
    const caption = el("caption", {}, `The newest frame of ring ${host.schema.name}`);
    this.element = el("div.stage", {},
      el("div.scroll", { tabIndex: 0, role: "region", "aria-label": `Values of ring ${host.schema.name}` },
        el("table.values", {}, caption, el("thead", {}, this.head), this.body)),
      this.note = el("p.note", { hidden: true }));
    this.inspector = null;
    this.settings = {};
  }

  want() {
    return { mode: "table", width: 1, height: 1, region: null };
  }

  async show({ header }) {
    const { columns, rows } = header;
    if (this.columns !== columns.join("\n")) {
      this.columns = columns.join("\n");
      this.head.replaceChildren(...columns.map((name) => el("th", { scope: "col" }, String(name))));
    }
    this.body.replaceChildren(...rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, words.nested(cell))))));
    const left = [[rows.length, header.all_rows, "row"], [columns.length, header.all_columns, "column"]]
      .filter(([shown, all]) => shown < all).map(([shown, all, noun]) => `the first ${shown} of ${words.count(all, noun)}`);
    this.note.hidden = !left.length;
    say(this.note, `${left.join(", and ")}.`.replace(/^t/, "T"));
  }

  png() {
    return Promise.resolve(null);
  }

  key() {
    return false;
  }

  answer() {}

  reset() {}

  destroy() {}
}
