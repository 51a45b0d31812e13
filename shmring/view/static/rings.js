// The list of rings: those with processes first, stale ones folded away.

import { el, say } from "./dom.js";
import * as words from "./words.js";

export class Rings {
  /** `toggle(id)` opens or closes a panel; `isOpen(id)` says whether there is one. */
  constructor(place, toggle, isOpen) {
    this.toggle = toggle;
    this.isOpen = isOpen;
    this.rows = new Map();
    this.filter = el("input", { type: "search", placeholder: "Filter", "aria-label": "Filter rings", "aria-keyshortcuts": "/", oninput: () => this.sift() });
    this.live = el("ul", { "aria-label": "Rings in use" });
    this.stale = el("ul", { "aria-label": "Stale rings" });
    this.staleCount = el("summary");
    this.staleFold = el("details", { hidden: true }, this.staleCount, this.stale);
    this.empty = el("p.hint", { hidden: true }, "No ring yet. Run ", el("code", {}, "shmring demo"), " to see one.");
    place.append(this.filter, el("div.list", {}, this.live, this.empty, this.staleFold));
  }

  update({ rings }) {
    const ids = new Set(rings.map((ring) => ring.id));
    for (const [id, row] of this.rows) {
      if (!ids.has(id)) {
        row.item.remove();
        this.rows.delete(id);
      }
    }
    for (const ring of rings) this.showRow(ring);
    for (const list of [this.live, this.stale]) order(list);
    const stale = this.stale.children.length;
    this.staleFold.hidden = stale === 0;
    say(this.staleCount, words.count(stale, "stale ring"));
    this.empty.hidden = rings.length > 0;
    this.sift();
  }

  showRow(ring) {
    const row = this.rows.get(ring.id) ?? this.makeRow(ring);
    row.dot.dataset.state = ring.state;
    row.dot.title = ring.state;
    say(row.state, ring.state === "live" ? "" : ring.state);
    say(row.form, ring.shape ? words.form(ring.shape, ring.dtype) : "");
    say(row.rate, ring.rate ? `${words.rate(ring.rate)}/s` : "");
    row.button.title = ring.message ?? "";
    row.button.setAttribute("aria-pressed", this.isOpen(ring.id));
    const list = ring.state === "stale" ? this.stale : this.live;
    if (row.item.parentNode !== list) list.append(row.item);
  }

  makeRow({ id, name }) {
    const row = {
      dot: el("span.dot", { "aria-hidden": "true" }), form: el("span.form"), rate: el("span.rate"), state: el("span.state"),
    };
    row.button = el("button.ring", { type: "button", onclick: () => this.toggle(id) },
      row.dot, el("span.name", {}, name), row.rate, row.form, row.state);
    row.item = el("li", {}, row.button);
    row.item.dataset.name = name;
    this.rows.set(id, row);
    return row;
  }

  sift() {
    const wanted = this.filter.value.toLowerCase();
    for (const { item } of this.rows.values()) item.hidden = !item.dataset.name.toLowerCase().includes(wanted);
  }

  mark() {
    for (const [id, row] of this.rows) row.button.setAttribute("aria-pressed", this.isOpen(id));
  }
}

/** Sorts by name without moving what is in place: focus stays. */
function order(list) {
  const sorted = [...list.children].toSorted((a, b) => a.dataset.name.localeCompare(b.dataset.name, "en", { numeric: true }));
  sorted.forEach((item, index) => {
    if (list.children[index] !== item) list.insertBefore(item, list.children[index]);
  });
}
