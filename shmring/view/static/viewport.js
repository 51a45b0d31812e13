// Where the picture lies in its panel: a scale (device pixels per pixel), the point in the middle, an orientation.

import { matrix } from "./orientation.js";

const LARGEST_SCALE = 64;

export class Viewport {
  constructor() {
    this.full = [1, 1]; // height and width of a frame
    this.size = [1, 1]; // width and height of the panel in device pixels
    this.orientation = { turn: 0, mirrored: false };
    this.fit();
  }

  fit() {
    this.scale = null; // as large as the panel allows
    this.centre = [this.full[1] / 2, this.full[0] / 2];
  }

  /** Takes the size of frames; returns whether it is another one. */
  setFull(full) {
    if (full[0] === this.full[0] && full[1] === this.full[1]) return false;
    this.full = full;
    this.fit();
    return true;
  }

  get fitScale() {
    const [height, width] = this.full;
    const [across, down] = this.orientation.turn % 2 ? [height, width] : [width, height];
    return Math.min(this.size[0] / across, this.size[1] / down) || 1;
  }

  get scaleNow() {
    return this.scale ?? this.fitScale;
  }

  /** From pixels of the frame (x, y) to device pixels of the panel: x' = a x + b y + e, y' = c x + d y + f. */
  get toPanel() {
    const scale = this.scaleNow;
    const [a, b, c, d] = matrix(this.orientation).map((part) => part * scale);
    const [x, y] = this.scale === null ? [this.full[1] / 2, this.full[0] / 2] : this.centre;
    // Whole device pixels: then pixels of the frame have sharp edges at whole scales.
    const e = Math.round(this.size[0] / 2 - a * x - b * y);
    const f = Math.round(this.size[1] / 2 - c * x - d * y);
    return [a, b, c, d, e, f];
  }

  /** From device pixels of the panel to pixels of the frame. */
  get toFrame() {
    const [a, b, c, d, e, f] = this.toPanel;
    const size = this.scaleNow ** 2; // a turned and scaled matrix: its inverse is its transpose by the square
    const inverse = [a / size, c / size, b / size, d / size];
    return [...inverse, -(inverse[0] * e + inverse[1] * f), -(inverse[2] * e + inverse[3] * f)];
  }

  frameAt([x, y]) {
    return apply(this.toFrame, x, y);
  }

  panelAt([x, y]) {
    return apply(this.toPanel, x, y);
  }

  /** Scales by `factor`; the pixel under `point` (device pixels) stays where it is. */
  zoom(factor, point = [this.size[0] / 2, this.size[1] / 2]) {
    const under = this.frameAt(point);
    const smallest = Math.min(this.fitScale, 1);
    const largest = Math.max(LARGEST_SCALE, this.fitScale * 4); // of a picture of few pixels
    const scale = Math.min(Math.max(this.scaleNow * factor, smallest), largest);
    if (factor < 1 && scale <= smallest && smallest === this.fitScale) return this.fit();
    this.setScale(scale);
    const [x, y] = this.frameAt(point);
    this.moveCentre(under[0] - x, under[1] - y);
  }

  setScale(scale) {
    if (this.scale === null) this.centre = [this.full[1] / 2, this.full[0] / 2];
    this.scale = scale;
  }

  /** Moves the picture by device pixels. */
  pan(right, down) {
    if (this.scale === null) return;
    const [a, b, c, d] = this.toFrame;
    this.moveCentre(-(a * right + b * down), -(c * right + d * down));
  }

  moveCentre(x, y) {
    this.centre = [
      Math.min(Math.max(this.centre[0] + x, 0), this.full[1]),
      Math.min(Math.max(this.centre[1] + y, 0), this.full[0]),
    ];
  }

  /** What the server is asked for: the part of the frame that is seen, and how large it is shown. */
  want() {
    const [height, width] = this.full;
    const scale = this.scaleNow;
    const wanted = (region) => ({
      region,
      width: Math.ceil((region ? region[3] - region[2] : width) * scale),
      height: Math.ceil((region ? region[1] - region[0] : height) * scale),
    });
    if (width * height <= 1) return { region: null, width: this.size[0], height: this.size[1] }; // not known yet
    if (this.scale === null) return wanted(null);
    const corners = [[0, 0], this.size].map((corner) => this.frameAt(corner));
    const [x0, x1] = corners.map(([x]) => x).sort((a, b) => a - b);
    const [y0, y1] = corners.map(([, y]) => y).sort((a, b) => a - b);
    const margin = 2 + Math.ceil(16 / scale);
    const even = (number) => number - (((number % 2) + 2) % 2);
    const region = [
      Math.max(even(Math.floor(y0 - margin)), 0), Math.min(even(Math.ceil(y1 + margin) + 1), height),
      Math.max(even(Math.floor(x0 - margin)), 0), Math.min(even(Math.ceil(x1 + margin) + 1), width),
    ];
    const whole = region[0] === 0 && region[2] === 0 && region[1] === height && region[3] === width;
    return region[1] <= region[0] || region[3] <= region[2] || whole ? wanted(null) : wanted(region);
  }
}

function apply([a, b, c, d, e, f], x, y) {
  return [a * x + b * y + e, c * x + d * y + f];
}
