// The body of a panel that shows pictures: what it shows, how, and what its keys do.

import { NAMES } from "./colormaps.js";
import { el, say } from "./dom.js";
import { decode } from "./frames.js";
import { Gestures } from "./gestures.js";
import { ImageSettings } from "./image-settings.js";
import { firstMode, levels } from "./levels.js";
import { Marks } from "./marks.js";
import * as orientation from "./orientation.js";
import { Picture, colouring } from "./picture.js";
import { Profile } from "./profile.js";
import { Viewport } from "./viewport.js";
import * as words from "./words.js";

const STEP = 40; // device pixels that an arrow key moves
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const NO_WEBGL = "Pictures need WebGL2, which this browser does not offer. Turn on hardware acceleration, or use " +
  "a current Firefox, Chrome, Edge or Safari. Everything else on this page works without it.";

export class ImageView {
  /** `host` is the panel: send(message), changed() (settings to keep), want() and wanted(), notice(text), schema. */
  constructor(host, settings) {
    this.host = host;
    this.viewport = new Viewport();
    this.viewport.orientation = settings.orientation ?? this.viewport.orientation;
    this.mode = settings.levels ?? null;
    this.fixed = settings.fixed ?? null;
    this.map = NAMES.includes(settings.map) ? settings.map : "gray";
    this.channel = settings.channel ?? 0;
    this.quality = settings.quality ?? null;
    this.frame = null; // {header, values}
    this.measured = false;
    this.cursor = null; // [x, y] of the frame
    this.makeStage();
    this.controls = new ImageSettings(this);
    this.inspector = this.controls.element;
    this.start();
  }

  makeStage() {
    this.canvas = el("canvas", {
      tabIndex: 0, role: "application", "aria-roledescription": "picture",
      "aria-label": `Picture of ring ${this.host.schema.name}`,
    });
    this.marks = new Marks();
    this.readout = el("output.readout", { hidden: true });
    this.profile = new Profile(this.host);
    this.element = el("div.stage", {}, el("div.canvas", {}, this.canvas, this.marks.element, this.readout),
      this.profile.element);
    this.gestures = new Gestures(this);
    this.resizes = new ResizeObserver((entries) => this.resize(entries.at(-1)));
    this.resizes.observe(this.canvas);
    this.canvas.addEventListener("webglcontextlost", (event) => this.lose(event));
    this.canvas.addEventListener("webglcontextrestored", () => this.restore());
  }

  start() {
    try {
      this.picture = new Picture(this.canvas);
    } catch (error) {
      this.picture = null;
      const text = error.message === "no WebGL2" ? NO_WEBGL : `Pictures cannot be drawn: ${error.message}`;
      this.element.replaceChildren(el("p.empty", { role: "alert" }, text));
    }
  }

  // ---- frames

  /** What the address keeps. */
  get settings() {
    return {
      levels: this.mode, fixed: this.mode === "fixed" ? this.fixed : null, map: this.map,
      orientation: this.viewport.orientation, channel: this.channel, quality: this.quality,
    };
  }

  /** What to ask the server for; null before the panel has a size. */
  want() {
    const channel = this.controls.channels.options.length ? this.channel : null;
    return this.measured ? { mode: "image", channel, quality: this.quality, ...this.viewport.want() } : null;
  }

  async show(frame) {
    if (!this.picture) return;
    const { header } = frame;
    const values = header.encoding === "jpeg" ? await decode(frame.bytes) : frame.values;
    this.frame?.values.close?.();
    this.frame = { header, values };
    if (this.viewport.setFull(header.full)) this.host.want();
    this.mode ??= firstMode(this.host.schema, header);
    this.controls.offerChannels(header, this.host.schema);
    this.load();
    this.refresh();
    this.ask();
  }

  load() {
    const { header, values } = this.frame;
    if (!header.shape[0] || !header.shape[1] || this.lost) return;
    this.picture.load(values, header.shape);
    this.loaded = header;
  }

  get range() {
    return levels(this.mode, this.fixed, this.host.schema, this.frame.header);
  }

  get isColoured() {
    const { shape } = this.frame.header;
    return colouring(this.colour, shape[2] ?? 1).colour !== 0;
  }

  /** The order of the colours. */
  get colour() {
    const { encoding, colour = this.host.schema.colour } = this.frame.header;
    return encoding === "jpeg" && colour === "bgr" ? "rgb" : colour; // decoding puts them in order
  }

  /** Draws, and shows in the settings what is in force. */
  refresh() {
    this.draw();
    if (this.frame) this.controls.show();
  }

  draw() {
    if (!this.loaded || this.lost) return;
    const { region, step, shape, scale = 1 } = this.loaded; // by which the values were divided
    const [low, high] = this.range.map((level) => level / scale);
    this.picture.draw({
      toFrame: this.viewport.toFrame, region, step, ...colouring(this.colour, shape[2] ?? 1),
      channel: Math.min(this.channel, (shape[2] ?? 1) - 1), map: this.map, low, high, ground: this.ground(),
    });
    this.mark();
  }

  /** The colour around the picture, as the theme has it. */
  ground() {
    const text = getComputedStyle(this.canvas).getPropertyValue("--stage").trim();
    return [1, 3, 5].map((start) => parseInt(text.slice(start, start + 2), 16) / 255);
  }

  /** Draws and returns the canvas in the same task: {width, height, pixels}. */
  pixels() {
    this.draw();
    return { width: this.canvas.width, height: this.canvas.height, pixels: this.picture.read() };
  }

  /** The picture alone as PNG, one pixel of the file for each that was received. */
  png() {
    const { canvas, viewport } = this;
    if (!this.loaded) return Promise.resolve(null);
    const kept = [canvas.width, canvas.height, viewport.size, viewport.scale, viewport.centre];
    const { shape: [height, width], region, step } = this.loaded;
    const size = viewport.orientation.turn % 2 ? [height, width] : [width, height];
    [canvas.width, canvas.height] = size;
    viewport.size = size;
    viewport.scale = 1 / Math.max(...step);
    viewport.centre = [(region[2] + region[3]) / 2, (region[0] + region[1]) / 2];
    this.draw();
    const made = new Promise((done) => canvas.toBlob(done));
    [canvas.width, canvas.height, viewport.size, viewport.scale, viewport.centre] = kept;
    this.draw();
    return made;
  }

  // ---- levels, colours, transfer

  change() {
    this.refresh();
    this.host.changed();
  }

  setMode(mode) {
    if (mode === "fixed" && this.frame) this.fixed = [...this.range];
    this.mode = mode;
    this.change();
  }

  fix(low, high) {
    if (!Number.isFinite(low) || !Number.isFinite(high)) return;
    this.fixed = [Math.min(low, high), Math.max(low, high)];
    this.mode = "fixed";
    this.change();
  }

  /** Levels that a hand has set: as precise as makes sense. */
  fixRounded(...limits) {
    const isFloat = String(this.frame.header.dtype).includes("f");
    this.fix(...limits.map((limit) => (isFloat ? Number(limit.toPrecision(5)) : Math.round(limit))));
  }

  setMap(name) {
    this.map = name;
    this.change();
  }

  nextMap(by) {
    this.setMap(NAMES[(NAMES.indexOf(this.map) + by + NAMES.length) % NAMES.length]);
  }

  setChannel(channel) {
    this.channel = channel;
    this.host.want();
    this.change();
  }

  setQuality(quality) {
    this.quality = quality;
    this.host.want();
    this.host.changed();
  }

  // ---- zoom, place, orientation

  look() {
    this.refresh();
    this.host.wanted();
  }

  resize(entry) {
    const ratio = window.devicePixelRatio || 1;
    const about = [entry.contentRect.width * ratio, entry.contentRect.height * ratio];
    const { inlineSize, blockSize } = entry.devicePixelContentBoxSize?.[0] ?? {};
    const isExact = Math.abs(inlineSize - about[0]) < 2 && Math.abs(blockSize - about[1]) < 2;
    const [width, height] = isExact ? [inlineSize, blockSize] : about.map(Math.round);
    if (!width || !height) return;
    Object.assign(this.canvas, { width, height });
    this.viewport.size = [width, height];
    this.refresh();
    if (this.measured) this.host.wanted();
    else {
      this.measured = true;
      this.host.want();
    }
  }

  zoomBy(factor, point) {
    this.viewport.zoom(factor, point);
    this.look();
  }

  zoomTo(scale) {
    this.viewport.setScale(scale);
    this.look();
  }

  fit() {
    this.viewport.fit();
    this.look();
  }

  /** From fitting to the next whole scale, and back. */
  fitOrEnlarge() {
    if (this.viewport.scale !== null) this.fit();
    else this.zoomTo(Math.max(1, 2 ** Math.ceil(Math.log2(this.viewport.fitScale * 1.01))));
  }

  pan(right, down) {
    this.viewport.pan(right, down);
    this.look();
  }

  turn(by) {
    this.viewport.orientation = by(this.viewport.orientation);
    this.look();
    this.host.changed();
  }

  // ---- read-out and profile

  pixelAt(place) {
    return this.viewport.frameAt(place).map(Math.floor);
  }

  /** Reads the pixel under the pointer. */
  pointAt(place) {
    const [x, y] = this.pixelAt(place);
    const [height, width] = this.viewport.full;
    this.byKeys = false;
    this.point(x >= 0 && y >= 0 && x < width && y < height ? [x, y] : null);
  }

  point(pixel) {
    this.cursor = pixel;
    this.readout.hidden ||= !pixel;
    this.mark();
    this.ask();
  }

  /** Asks the server for what it alone knows; the answer to one question brings the next. */
  ask() {
    if (this.cursor && !this.asked) {
      this.asked = true;
      this.host.send({ type: "pixel", y: this.cursor[1], x: this.cursor[0] });
    }
    this.profile.ask();
  }

  answer(message) {
    if (message.type === "profile") {
      this.profile.answer(message);
      return;
    }
    this.asked = false;
    if (!this.cursor) return;
    const { unit } = this.host.schema;
    const values = (message.value ?? []).flat(Infinity).map(words.value).join(", ");
    this.readout.hidden = false;
    say(this.readout, `x ${message.x}  y ${message.y}  ${values}${unit ? ` ${unit}` : ""}`);
    if (message.x !== this.cursor[0] || message.y !== this.cursor[1]) this.ask();
  }

  /** The server forgot the questions: after a reconnection. */
  reset() {
    this.asked = false;
    this.profile.asked = null;
  }

  toggleProfile() {
    this.profile.toggle();
    if (this.profile.active) this.profile.across(this.viewport.full);
    this.refresh();
  }

  beginLine(place) {
    this.profile.begin(this.pixelAt(place));
  }

  endLine(place) {
    this.profile.end(this.pixelAt(place));
    this.mark();
  }

  mark() {
    const ratio = this.canvas.width / (this.canvas.clientWidth || 1);
    const at = ([x, y]) => this.viewport.panelAt([x + 0.5, y + 0.5]).map((part) => part / ratio);
    this.marks.draw(this.profile.line, this.byKeys ? this.cursor : null, at);
  }

  // ---- keys

  /** Does what a key means here; returns whether it means something. */
  key({ key, shiftKey }) {
    const does = {
      "+": () => this.zoomBy(1.5), "=": () => this.zoomBy(1.5), "-": () => this.zoomBy(1 / 1.5),
      0: () => this.fit(), 1: () => this.zoomTo(1),
      r: () => this.turn(orientation.turned),
      h: () => this.turn(orientation.mirroredSideways),
      v: () => this.turn(orientation.mirroredUpright),
      u: () => this.setMode("full"), a: () => this.setMode("auto"), p: () => this.setMode("percentile"),
      f: () => this.setMode("fixed"),
      m: () => this.nextMap(1), M: () => this.nextMap(-1),
      l: () => this.toggleProfile(),
      c: () => this.cursor && this.profile.begin(this.cursor),
    }[key] ?? (ARROWS[key] && (() => this.arrow(ARROWS[key], shiftKey)));
    does?.();
    return Boolean(does);
  }

  /** Moves the picture, or with Shift the cross that reads a pixel and ends the line. */
  arrow([right, down], shift) {
    if (!shift) {
      this.pan(-right * STEP, -down * STEP);
      return;
    }
    const [height, width] = this.viewport.full;
    const [a, b, c, d] = orientation.matrix(this.viewport.orientation);
    const [x, y] = this.cursor ?? this.pixelAt(this.viewport.size.map((part) => part / 2));
    const within = (number, length) => Math.min(Math.max(number, 0), length - 1);
    this.byKeys = true;
    this.point([within(x + a * right + c * down, width), within(y + b * right + d * down, height)]);
    if (this.profile.active) {
      this.profile.end(this.cursor);
      this.mark();
    }
  }

  // ---- a lost graphics card

  lose(event) {
    if (this.gone) return;
    event.preventDefault();
    this.lost = true;
    this.host.notice("The browser took the graphics memory away; the picture comes back by itself.");
  }

  restore() {
    this.lost = false;
    this.picture.build();
    this.host.notice(null);
    if (this.frame) this.load();
    this.draw();
  }

  destroy() {
    this.gone = true;
    this.resizes.disconnect();
    this.profile.destroy();
    this.picture?.release();
  }
}
