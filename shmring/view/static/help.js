// The page of keys that ? shows.

import { button, el } from "./dom.js";

const KEYS = [
  ["Everywhere", [
    ["?", "This help"], ["/", "Filter the rings"], ["[  ]", "Panel before, panel after"], ["d", "Light, dark"], ["Esc", "Close this help"],
  ]],
  ["A panel", [
    ["Space", "Pause, continue"], [".", "Next frame, then pause"], ["s", "Save as PNG"], ["n", "Save as .npy"],
    ["Shift+R", "Record, where allowed"], ["t", "Traffic"], ["i", "Settings beside the picture"], ["x", "Close the panel"],
  ]],
  ["Pictures", [
    ["+  −", "Zoom"], ["0  1", "Fit, one to one"], ["← ↑ → ↓", "Move the picture"], ["Shift+← …", "Read pixel by pixel"],
    ["r  h  v", "Turn, mirror sideways, upright"], ["u  a  p  f", "Levels: full, minimum to maximum, 1 % to 99 %, fixed"],
    ["m  Shift+M", "Next colour map, the one before"], ["l", "Line profile; Shift and the arrows move its end"], ["c", "The line begins at the cross"],
  ]],
  ["Pointer", [
    ["Wheel, pinch", "Zoom"], ["Drag", "Move the picture; with the line profile, draw its line"],
    ["Shift+drag", "Contrast (sideways) and brightness"], ["Double click", "Fit, or enlarge"],
  ]],
  ["Signals", [["+  −", "Less time, more time"], ["f", "Spectrum"]]],
];

export class Help {
  constructor() {
    this.element = el("dialog.help", { "aria-labelledby": "help-title" },
      el("header", {}, el("h2", { id: "help-title" }, "Keys"), button("close", "Close", "Esc", () => this.element.close())),
      el("div.keys", {}, KEYS.map(([title, rows]) => el("section", {}, el("h3", {}, title),
        el("dl", {}, rows.map(([keys, meaning]) => el("div", {},
          el("dt", {}, keys.split("  ").map((key) => el("kbd", {}, key))), el("dd", {}, meaning))))))));
    this.element.addEventListener("click", (event) => event.target === this.element && this.element.close());
    document.body.append(this.element);
  }

  toggle() {
    if (this.element.open) this.element.close();
    else this.element.showModal();
  }
}
