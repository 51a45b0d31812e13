// The settings beside a picture: levels, colours, view, transfer. They call the view, and show what is in force.

import { NAMES, table } from "./colormaps.js";
import { button, el, say } from "./dom.js";
import { Histogram, MODES } from "./levels.js";
import { channelNames } from "./names.js";
import * as orientation from "./orientation.js";
import * as words from "./words.js";

const TRANSFERS = { 0: "Exact values", 85: "JPEG, for slow links", 50: "JPEG, for very slow links" };

const select = (label, choices, choose) => {
  const made = el("select", { "aria-label": label, onchange: () => choose(made.value) },
    choices.map(([value, text]) => el("option", { value }, text)));
  return made;
};

export class ImageSettings {
  constructor(view) {
    this.view = view;
    this.element = el("section.settings", { "aria-label": "Picture settings" },
      ...this.levels(), this.colours(), ...this.look(), this.link());
  }

  levels() {
    const { view } = this;
    const limit = (label, other) => el("input", { // which alone changes: what is written in the other is short
      type: "number", step: "any", "aria-label": label,
      onchange: ({ target }) => view.fix(target.valueAsNumber, view.range[other]),
    });
    this.histogram = new Histogram((low, high) => view.fix(low, high));
    this.modes = select("Levels", Object.entries(MODES), (mode) => view.setMode(mode));
    this.low = limit("Lowest value shown", 1);
    this.high = limit("Highest value shown", 0);
    return [el("h3", {}, "Levels"), this.histogram.element, el("div.row", {}, this.modes),
      el("div.row.pair", {}, this.low, el("span", { "aria-hidden": "true" }, "to"), this.high)];
  }

  colours() {
    this.maps = select("Colour map", NAMES.map((name) => [name, name]), (name) => this.view.setMap(name));
    this.ramp = el("canvas.ramp", { width: 256, height: 1, "aria-hidden": "true" });
    this.channels = select("Channel", [], (channel) => this.view.setChannel(Number(channel)));
    this.channelRow = el("div.row", { hidden: true }, this.channels);
    return (this.mapped = el("div", {}, el("h3", {}, "Colours"), el("div.row", {}, this.maps), this.ramp, this.channelRow));
  }

  look() {
    const { view } = this;
    this.zoom = el("span.zoom");
    this.line = button("line", "Line profile", "l", () => view.toggleProfile());
    const oneToOne = el("button.icon.text", {
      type: "button", title: "One to one (1)", "aria-label": "One to one", "aria-keyshortcuts": "1",
      onclick: () => view.zoomTo(1),
    }, "1:1");
    return [el("h3", {}, "View ", this.zoom), el("div.row.tools", { role: "group", "aria-label": "View" },
      button("minus", "Zoom out", "-", () => view.zoomBy(1 / 1.5)),
      button("plus", "Zoom in", "+", () => view.zoomBy(1.5)),
      button("fit", "Fit into the panel", "0", () => view.fit()), oneToOne,
      button("rotate", "Turn by a quarter", "r", () => view.turn(orientation.turned)),
      button("mirror", "Mirror left to right", "h", () => view.turn(orientation.mirroredSideways)),
      button("flip", "Mirror top to bottom", "v", () => view.turn(orientation.mirroredUpright)),
      this.line)];
  }

  link() {
    this.transfer = select("Transfer", Object.entries(TRANSFERS), (quality) => this.view.setQuality(+quality || null));
    return (this.linked = el("div", { hidden: true }, el("h3", {}, "Transfer"), el("div.row", {}, this.transfer)));
  }

  /** Shows what is in force. */
  show() {
    const { view } = this;
    const { header } = view.frame;
    const [low, high] = view.range;
    this.histogram.show(header, low, high);
    for (const [field, limit] of [[this.low, low], [this.high, high]]) {
      if (document.activeElement !== field) field.value = words.short(limit);
      field.title = words.value(limit);
    }
    this.modes.value = view.mode;
    this.maps.value = view.map;
    if (this.painted !== view.map) this.paintRamp(view.map);
    this.mapped.hidden = view.isColoured;
    this.line.setAttribute("aria-pressed", view.profile.active);
    this.transfer.value = view.quality ?? 0;
    this.linked.hidden = header.dtype !== "|u1" || header.shape[2] === 4 || String(header.colour).startsWith("bayer");
    const percent = view.viewport.scaleNow * 100;
    say(this.zoom, `${percent >= 10 ? Math.round(percent) : percent.toFixed(1)} %`);
  }

  paintRamp(name) {
    this.painted = name;
    const colours = table(name);
    const pen = this.ramp.getContext("2d");
    const row = pen.createImageData(256, 1);
    for (let index = 0; index < 256; index += 1) {
      row.data.set([...colours.subarray(index * 3, index * 3 + 3), 255], index * 4);
    }
    pen.putImageData(row, 0, 0);
  }

  /** Offers channels where one at a time is shown: of what is neither grey nor has colours. */
  offerChannels({ shape, full }, schema) {
    const all = schema.shape.reduce((product, length) => product * length, 1);
    const number = shape.length === 2 ? Math.round(all / (full[0] * full[1])) || 1 : 1;
    this.channelRow.hidden = number <= 1;
    const wanted = number > 1 ? number : 0;
    if (this.channels.options.length === wanted) return;
    const names = channelNames(schema);
    this.channels.replaceChildren(...Array.from({ length: wanted },
      (_, index) => el("option", { value: index }, names[index] ?? `channel ${index}`)));
    this.channels.value = this.view.channel;
  }
}
