// One ring on the page: its connection, its frames one after the other, its buttons, banner and status line.

import { button, download, el, relabel, say } from "./dom.js";
import { parse } from "./frames.js";
import { ImageView } from "./image.js";
import { Link } from "./link.js";
import { Meta } from "./meta.js";
import { Pace } from "./pace.js";
import { Recording } from "./recording.js";
import { SignalView } from "./signal.js";
import { TableView } from "./table.js";
import { Traffic } from "./traffic.js";
import * as words from "./words.js";

const CALM = new Set(["closed", "none", "missing", "stale"]); // what is no fault
const VIEWS = { image: ImageView, signal: SignalView, table: TableView };
const ASK_AFTER = 80; // ms: a zooming wheel asks the server once

export class Panel {
  /** `app` has changed() and close(panel); `settings` is what the address kept. */
  constructor(app, id, settings = {}) {
    this.app = app;
    this.id = id;
    this.name = nameOf(id);
    this.kept = settings;
    this.paused = false;
    this.pace = new Pace();
    this.schema = null;
    this.view = null;
    this.lasting = [null]; // the banner that comes back after one for a while
    this.failure = null; // the banner that the next frame takes away
    this.make();
    this.link = new Link(`ws/ring?name=${id}`, {
      state: (state) => this.connection(state),
      text: (message) => this.hear(message),
      frame: (buffer) => this.take(buffer),
    });
  }

  make() {
    this.dot = el("span.dot", { "aria-hidden": "true" });
    this.about = el("span.about");
    this.pauseButton = button("pause", "Pause", "Space", () => this.pause());
    this.stepButton = button("step", "Next frame", ".", () => this.step());
    this.record = new Recording(this);
    this.sideButton = button("side", "Settings", "i", () => this.toggleSide());
    this.sideButton.setAttribute("aria-expanded", "true");
    const title = `panel-${++Panel.made}`;
    this.banner = el("div.banner", { role: "status", hidden: true });
    this.body = el("div.body", {}, el("p.empty", {}, "Waiting for the first frame …"));
    this.traffic = new Traffic();
    this.settingsPlace = el("div");
    this.meta = new Meta();
    this.side = el("div.side", { tabIndex: 0, role: "region", "aria-label": `Settings of ${this.name}` }, this.settingsPlace, this.meta.element, this.traffic.element);
    this.status = el("footer.status", {}, this.statusLeft = el("span"), this.statusRight = el("span"));
    this.element = el("section.panel", { "aria-labelledby": title, onfocusin: () => this.app.focus(this), onpointerdown: () => this.app.focus(this) },
      el("header", {},
        el("div.title", {}, this.dot, el("h2", { id: title }, this.name), this.about),
        el("div.tools", { role: "toolbar", "aria-label": `Buttons of ${this.name}` },
          this.pauseButton, this.stepButton,
          button("camera", "Save as PNG", "s", () => this.savePng()),
          button("file", "Save as .npy", "n", () => this.saveNpy()),
          this.record.button, this.sideButton,
          button("close", "Close", "x", () => this.app.close(this)))),
      this.banner, this.record.element, el("div.content", {}, this.body, this.side), this.status);
  }

  // ---- what the server says

  connection(state) {
    this.connected = state === "open";
    this.app.connection(state);
    if (state === "open") {
      this.view?.reset();
      this.asked = null;
      if (this.paused) this.link.send({ type: "pause" });
      if (this.view) this.want();
    }
  }

  hear(message) {
    const does = {
      schema: () => this.begin(message),
      end: () => this.ended(message),
      replaced: () => this.replaced(message),
      error: () => this.fail(message.message),
      pixel: () => this.view?.answer(message),
      profile: () => this.view?.answer(message),
      recording: () => this.record.hear(message),
    };
    does[message.type]?.();
  }

  begin(schema, now = !this.paused || !this.last) {
    const form = JSON.stringify([schema.kind, schema.dtype, schema.shape, schema.colour, schema.names]);
    this.client = schema.client;
    this.end = null;
    this.waiting = null;
    if (!now && form !== this.made) {
      this.waiting = schema;
      this.justReplaced = false;
      this.tell("info", "The next ring of this name has other frames: continue to see them.");
      this.showState();
      return;
    }
    this.schema = schema;
    if (!this.justReplaced) this.tell(null);
    this.justReplaced = false;
    say(this.about, this.form(schema));
    if (form !== this.made) {
      this.made = form;
      this.kept = this.view ? this.view.settings : this.kept;
      this.view?.destroy();
      this.view = new VIEWS[schema.kind](this, this.kept);
      this.body.replaceChildren(this.view.element);
      this.settingsPlace.replaceChildren(...(this.view.inspector ? [this.view.inspector] : []));
      this.last = null;
    }
    this.asked = null;
    this.want();
    this.showState();
  }

  form({ shape, dtype, colour }) {
    const order = colour && colour !== "gray" ? ` ${String(colour).replace("_", " ").toUpperCase()}` : "";
    return words.form(shape, dtype) + order;
  }

  ended({ state, message }) {
    this.end = state;
    this.tell(CALM.has(state) ? "info" : "error", message);
    this.showState();
  }

  replaced({ message }) {
    this.justReplaced = true;
    this.end = null;
    this.tell(null);
    this.tell("info", message ?? "The ring was replaced by a new one of the same name.", 8000);
  }

  /** Shows a banner until another one comes, or for a while before that one; null takes it away. */
  tell(kind, text, duration = 0) {
    clearTimeout(this.fading);
    if (!duration) this.lasting = [kind, text];
    this.banner.hidden = !text;
    this.banner.className = `banner ${kind ?? ""}`;
    say(this.banner, text ?? "");
    if (duration) this.fading = setTimeout(() => this.tell(...this.lasting), duration);
  }

  /** What a view has to say. */
  notice(text) {
    this.tell(text ? "info" : null, text);
  }

  /** What the list of rings knows. */
  update(ring) {
    this.ring = ring;
    if (ring) this.traffic.update(ring);
    this.showState();
    this.describe();
  }

  // ---- frames

  take(buffer) {
    const frame = parse(buffer);
    frame.view = this.view;
    this.next = frame;
    if (!this.drawing) this.drawing = requestAnimationFrame(() => this.draw());
  }

  async draw() {
    const frame = this.next;
    if (frame.view === this.view) await this.show(frame); // else: the last one of a ring that was replaced
    this.drawing = null;
    this.link.send({ type: "ack", seq: frame.header.seq });
    this.describe();
    if (this.next !== frame) this.drawing = requestAnimationFrame(() => this.draw());
  }

  async show(frame) {
    try {
      await this.view.show(frame);
      this.last = frame.header;
      if (this.lasting === this.failure) this.tell(null);
      this.meta.show(frame.header.meta ?? null);
      this.pace.drawn(frame);
    } catch (error) {
      this.fail(`Frame ${frame.header.seq} cannot be shown: ${error.message}`);
    }
  }

  /** Shows an error that the next frame takes away. */
  fail(text) {
    this.tell("error", text);
    this.failure = this.lasting;
  }

  wanted() {
    clearTimeout(this.asking);
    this.asking = setTimeout(() => this.want(), ASK_AFTER);
  }

  /** Says which part of the frames is needed, and how large. */
  want() {
    if (!this.view || !this.link) return;
    const wanted = this.view.want();
    if (!wanted) return;
    const message = { type: "want", rate: null, rotate: 0, ...wanted };
    const text = JSON.stringify(message);
    if (text !== this.asked) this.link.send(message);
    this.asked = text;
  }

  describe() {
    const { pace, last } = this;
    if (!last) return;
    const parts = [`frame ${words.whole(last.seq)}`];
    if (this.paused) parts.push("paused");
    else parts.push(`${words.rate(pace.rate)} frames/s`);
    parts.push(`skipped ${words.whole(pace.skipped)}`);
    if (!this.paused && pace.rate > 0 && pace.latency !== null) parts.push(words.milliseconds(pace.latency));
    say(this.statusLeft, parts.join("  ·  "));
    this.statusLeft.title = "Number of the frame shown, frames shown per second, frames that this page did not show " +
      "(other readers have them), and the median time from publish to picture";
    say(this.statusRight, this.detail(last));
  }

  detail(header) {
    const parts = [];
    const step = Math.max(...(header.step ?? [1]));
    if (step > 1) parts.push(`every ${ordinal(step)} pixel`);
    if (header.exact === false) parts.push("rounded to float32");
    if (header.encoding === "jpeg") parts.push("JPEG");
    if (header.all_channels) parts.push(...some(header.channels / (header.complex ? 2 : 1), header.all_channels, "channel"));
    if (header.kept) parts.push(`keeps ${words.value(Number(header.kept.toPrecision(2)))} s`);
    if (header.planes) parts.push(...some(1, header.planes, "plane"));
    if (header.lost) parts.push(`${words.count(header.lost, "frame")} lost`);
    return parts.join("  ·  ");
  }

  /** The state for the eye (the dot) and for everybody else (its title). The list, which is up to a second
   * older than what the panel heard itself, only counts before that. */
  showState() {
    const state = this.end ?? this.schema?.state ?? this.ring?.state ?? "waiting";
    this.dot.dataset.state = state;
    this.dot.title = state;
    this.element.dataset.state = state;
  }

  // ---- buttons

  pause() {
    this.paused = !this.paused;
    if (this.waiting) this.begin(this.waiting, true);
    this.link.send({ type: this.paused ? "pause" : "resume" });
    relabel(this.pauseButton, this.paused ? "play" : "pause", this.paused ? "Continue" : "Pause", "Space");
    this.element.classList.toggle("paused", this.paused);
    this.describe();
  }

  step() {
    if (!this.paused) this.pause();
    if (this.waiting) this.begin(this.waiting, true);
    this.link.send({ type: "step" });
  }

  async savePng() {
    const blob = await this.view?.png();
    if (blob) download(blob, this.fileName("png"));
    else this.tell("info", "There is no picture to save.", 4000);
  }

  async saveNpy() {
    if (!this.client || !this.last) return this.tell("info", "There is no frame to save.", 4000);
    const answer = await fetch(`snapshot.npy?name=${this.id}&client=${this.client}`).catch(() => null);
    if (answer?.ok) {
      const [, seq] = answer.headers.get("content-disposition").match(/-(\d+)\.npy$/); // the frame may be newer
      return download(await answer.blob(), this.fileName("npy", seq));
    }
    return this.tell("error", answer ? await answer.text() : "The server does not answer.", 6000);
  }

  fileName(extension, seq = this.last?.seq ?? 0) {
    return `${this.name.replace(/[^\w.-]+/g, "_")}-${seq}.${extension}`;
  }

  toggleSide() {
    const shown = this.element.classList.toggle("bare");
    this.sideButton.setAttribute("aria-expanded", !shown);
  }

  /** Does what a key means in this panel; returns whether it means something. */
  key(event) {
    const does = {
      " ": () => this.pause(), ".": () => this.step(),
      s: () => this.savePng(), n: () => this.saveNpy(), R: () => this.record.toggle(),
      i: () => this.toggleSide(), x: () => this.app.close(this),
      t: () => (this.traffic.element.open = !this.traffic.element.open),
    }[event.key];
    does?.();
    return does !== undefined || (this.view?.key(event) ?? false);
  }

  // ---- what the view calls

  send(message) {
    this.link.send(message);
  }

  changed() {
    this.app.changed();
  }

  get settings() {
    return this.view ? this.view.settings : this.kept;
  }

  focus() {
    (this.element.querySelector("canvas[tabindex], [tabindex='0']") ?? this.pauseButton).focus();
  }

  destroy() {
    clearTimeout(this.asking);
    clearTimeout(this.fading);
    cancelAnimationFrame(this.drawing);
    this.link.close();
    this.view?.destroy();
    this.traffic.destroy();
    this.element.remove();
  }
}

Panel.made = 0;

/** What is shown of a ring's name until the server says how to write it. */
function nameOf(id) {
  try {
    return decodeURIComponent(id);
  } catch {
    return id;
  }
}

/** Which of all there are is shown, where it is not all of them. */
const some = (shown, all, noun) => (shown < all ? [`first ${shown > 1 ? `${shown} ` : ""}of ${words.count(all, noun)}`] : []);

function ordinal(number) {
  if (number % 100 >= 11 && number % 100 <= 13) return `${number}th`;
  return number + (["th", "st", "nd", "rd"][number % 10] ?? "th");
}
