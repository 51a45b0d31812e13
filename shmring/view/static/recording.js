// The button that records a ring on the server, where the server allows it.

import { button, el, relabel, say } from "./dom.js";
import * as words from "./words.js";

export class Recording {
  constructor(panel) {
    this.panel = panel;
    this.running = false;
    this.button = button("record", "Record", "Shift+R", () => this.toggle());
    this.button.classList.add("record");
    this.button.hidden = true;
    this.path = el("input", { type: "text", "aria-label": "File name", spellcheck: false, required: true });
    this.form = el("form.recording", { hidden: true, onsubmit: (event) => this.start(event) },
      el("label", {}, "Record into", this.path), el("button", { type: "submit" }, "Start"),
      el("button", { type: "button", onclick: () => this.hide() }, "Cancel"));
    this.form.addEventListener("keydown", (event) => event.key === "Escape" && this.hide());
    this.said = el("p.recording", { role: "status", hidden: true });
    this.element = el("div", {}, this.form, this.said);
  }

  allow(allowed) {
    this.button.hidden = !allowed;
  }

  toggle() {
    if (this.button.hidden) return;
    if (this.running) this.panel.send({ type: "record_stop" });
    else if (!this.form.hidden) this.hide();
    else this.ask();
  }

  ask() {
    const stamp = new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-");
    this.path.value = `${this.panel.name.replace(/[^\w.-]+/g, "_")}-${stamp}.npy`;
    this.form.hidden = false;
    this.path.focus();
    this.path.select();
  }

  hide() {
    this.form.hidden = true;
    this.button.focus();
  }

  start(event) {
    event.preventDefault();
    this.panel.send({ type: "record", path: this.path.value });
    this.hide();
  }

  hear({ path, frames, lost, state, message }) {
    this.running = state === "recording";
    relabel(this.button, this.running ? "stop" : "record", this.running ? "Stop recording" : "Record", "Shift+R");
    this.button.classList.toggle("running", this.running);
    this.said.hidden = false;
    this.said.classList.toggle("bad", ["refused", "write failed"].includes(state));
    const counts = `${words.count(frames ?? 0, "frame")}${lost ? `, ${words.whole(lost)} lost` : ""}`;
    say(this.said, message ?? `${this.running ? "Recording" : "Recorded"} ${path}: ${counts}`);
  }
}
