// The page: the list of rings, the panels, the keys, and the address that remembers them.

import { el, relabel, say } from "./dom.js";
import { Help } from "./help.js";
import { Link } from "./link.js";
import { Panel } from "./panel.js";
import { repaint } from "./plots.js";
import { Rings } from "./rings.js";
import * as state from "./state.js";
import { Theme } from "./theme.js";

const MOST_PANELS = 12; // a browser has 16 WebGL contexts
const NARROWEST = 480, LOWEST = 400; // CSS pixels of a panel
const BESIDE = 230, AROUND = 90; // what of them is not picture
const NARROW = matchMedia("(max-width: 700px)");
const SAID = {
  open: "",
  lost: "Connection lost. Trying again …",
  refused: "The server does not know this browser. Open the address that shmring view printed.",
};

class App {
  constructor() {
    this.place = document.getElementById("panels");
    this.said = document.getElementById("link");
    this.panels = [];
    this.current = null;
    this.known = null;
    this.rings = new Rings(document.getElementById("rings"), (id) => this.toggle(id), (id) => Boolean(this.find(id)));
    this.theme = new Theme(document.getElementById("theme"), () => this.repaint());
    this.help = new Help();
    this.empty = el("p.empty", {}, "Choose a ring to see it.");
    this.place.append(this.empty);
    this.makeButtons();
    new ResizeObserver(() => this.layOut()).observe(this.place);
    document.addEventListener("keydown", (event) => this.key(event));
    window.addEventListener("hashchange", () => this.follow());
    this.follow();
    this.link = new Link("ws/rings", { state: (one) => this.connection(one), text: (message) => this.hear(message) });
  }

  makeButtons() {
    const help = document.getElementById("help");
    relabel(help, "help", "Keys", "?");
    help.addEventListener("click", () => this.help.toggle());
    this.listButton = document.getElementById("toggle-rings");
    relabel(this.listButton, "rings", "Rings");
    this.listButton.addEventListener("click", () => this.showList(document.body.classList.contains("no-list")));
    this.showList(!NARROW.matches);
    NARROW.addEventListener("change", () => this.showList(!NARROW.matches));
  }

  showList(shown) {
    document.body.classList.toggle("no-list", !shown);
    this.listButton.setAttribute("aria-expanded", shown);
  }

  // ---- the server

  connection(one) {
    if (one === "lost" && this.refused) return;
    this.refused = one === "refused";
    say(this.said, SAID[one]);
    document.body.classList.toggle("offline", one !== "open");
  }

  hear(message) {
    if (message.type !== "rings") return;
    this.mayRecord = message.record;
    const first = this.known === null;
    this.known = new Map(message.rings.map((ring) => [ring.id, ring]));
    this.rings.update(message);
    for (const panel of this.panels) {
      panel.update(this.known.get(panel.id));
      panel.record.allow(message.record);
    }
    if (first && !this.panels.length) this.openOnly(message.rings);
    if (first && !this.panels.length) this.showList(true);
  }

  /** With one live ring there is nothing to choose. */
  openOnly(rings) {
    const live = rings.filter((ring) => ring.state === "live" && ring.kind);
    if (live.length === 1) this.open(live[0].id);
  }

  // ---- panels

  find(id) {
    return this.panels.find((panel) => panel.id === id);
  }

  toggle(id) {
    const panel = this.find(id);
    if (panel) this.close(panel);
    else this.open(id);
    if (NARROW.matches) this.showList(false);
  }

  open(id, settings, quietly = false) {
    if (this.panels.length >= MOST_PANELS) {
      say(this.said, `The page shows up to ${MOST_PANELS} rings: close one first.`);
      return;
    }
    const panel = new Panel(this, id, settings);
    this.panels.push(panel);
    this.place.append(panel.element);
    panel.update(this.known?.get(id));
    panel.record.allow(this.mayRecord);
    this.focus(panel);
    this.arrange();
    if (!quietly) this.changed();
  }

  close(panel, quietly = false) {
    const index = this.panels.indexOf(panel);
    this.panels.splice(index, 1);
    panel.destroy();
    if (this.current === panel) this.current = null;
    this.arrange();
    if (quietly) return;
    if (!this.panels.length) this.showList(true);
    this.changed();
    const next = this.panels[Math.min(index, this.panels.length - 1)];
    if (next) next.focus();
    else this.place.focus();
  }

  /** Draws everything in the colours of another theme. */
  repaint() {
    repaint();
    for (const panel of this.panels) panel.view?.refresh?.();
  }

  arrange() {
    this.empty.hidden = this.panels.length > 0;
    this.place.dataset.count = this.panels.length;
    this.layOut();
    this.rings.mark();
    document.title = this.panels.length ? `${this.panels.map((panel) => panel.name).join(", ")} · shmring` : "shmring";
  }

  /** As many columns as make the panels largest; the last one takes what is left of its row. */
  layOut() {
    const number = this.panels.length;
    const columns = bestColumns(number, this.place.clientWidth, this.place.clientHeight);
    this.place.style.setProperty("--columns", columns);
    this.panels.forEach(({ element }, index) => {
      const left = index === number - 1 ? columns * Math.ceil(number / columns) - number : 0;
      element.style.gridColumn = `span ${1 + left}`;
    });
  }

  focus(panel) {
    if (this.current === panel) return;
    this.current?.element.classList.remove("current");
    this.current = panel;
    panel.element.classList.toggle("current", true);
  }

  // ---- the address

  changed() {
    const hash = state.write(this.panels.map((panel) => [panel.id, panel.settings]));
    if (hash === location.hash || (hash === "#" && !location.hash)) return;
    history.replaceState(null, "", hash === "#" ? location.pathname : hash);
  }

  /** Opens what the address says and closes all else. */
  follow() {
    const wanted = state.read(location.hash);
    const same = ([id, settings], panel) => state.write([[id, settings]]) === state.write([[panel.id, panel.settings]]);
    for (const panel of [...this.panels]) if (!wanted.some((one) => same(one, panel))) this.close(panel, true);
    for (const [id, settings] of wanted) if (!this.find(id)) this.open(id, settings, true);
  }

  // ---- keys

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.matches("input, select, textarea") || this.help.element.open) return;
    if (event.key === " " && event.target.matches("button, summary")) return;
    if (this.everywhere(event) || this.panelFor(event)?.key(event)) event.preventDefault();
  }

  everywhere({ key }) {
    const does = {
      "?": () => this.help.toggle(), d: () => this.theme.toggle(),
      "/": () => this.findRing(), "[": () => this.move(-1), "]": () => this.move(1),
    }[key];
    does?.();
    return does !== undefined;
  }

  /** The panel that a key is for: the one that had the focus last. Arrows move what has the focus itself. */
  panelFor({ key, target }) {
    if (key.startsWith("Arrow") && !target.matches("body, main, .panel canvas, .panel button")) return null;
    return this.current ?? this.panels[0];
  }

  findRing() {
    this.showList(true);
    this.rings.filter.focus();
  }

  move(by) {
    if (!this.panels.length) return;
    const at = this.panels.indexOf(this.current);
    this.panels[(at + by + this.panels.length) % this.panels.length].focus();
  }
}

function bestColumns(number, width, height) {
  let best = 1, largest = 0;
  for (let columns = 1; columns <= number && (columns === 1 || width / columns >= NARROWEST); columns += 1) {
    const across = width / columns - BESIDE;
    const down = Math.max(height / Math.ceil(number / columns), LOWEST) - AROUND;
    const size = Math.min(across, (down * 4) / 3);
    if (size > largest * 0.85) [best, largest] = [columns, Math.max(size, largest)]; // beside each other, if it may be
  }
  return best;
}

globalThis.shmring = new App();
