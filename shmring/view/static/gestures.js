// What pointers and the wheel do to a picture: move, zoom, pinch, read a pixel, change the contrast, draw a line.

const LINE = 24; // pixels of a wheel that counts in lines

export class Gestures {
  constructor(view) {
    this.view = view;
    this.canvas = view.canvas;
    this.pointers = new Map(); // those that are down: where, in device pixels
    const on = (name, call) => this.canvas.addEventListener(name, call, { passive: false });
    on("wheel", (event) => this.wheel(event));
    on("pointerdown", (event) => this.press(event));
    on("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) on(name, (event) => this.pointers.delete(event.pointerId));
    on("pointerleave", () => !this.pointers.size && view.point(null));
    on("dblclick", () => view.fitOrEnlarge());
    on("contextmenu", (event) => event.preventDefault());
  }

  /** Device pixels of the canvas. */
  placeOf({ clientX, clientY }) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [((clientX - left) / width) * this.canvas.width, ((clientY - top) / height) * this.canvas.height];
  }

  wheel(event) {
    event.preventDefault();
    const turned = -event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? LINE : 1);
    this.view.zoomBy(2 ** (turned / (event.ctrlKey ? 80 : 240)), this.placeOf(event)); // Ctrl: a pinch on a touchpad
  }

  press(event) {
    const { view } = this;
    const place = this.placeOf(event);
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, place);
    this.drag = (to, from) => view.pan(to[0] - from[0], to[1] - from[1]);
    if (event.shiftKey || event.button === 2) this.drag = this.contrast(place);
    else if (view.profile.active && this.pointers.size === 1) {
      view.beginLine(place);
      this.drag = (to) => view.endLine(to);
    }
  }

  move(event) {
    const place = this.placeOf(event);
    const before = this.pointers.get(event.pointerId);
    this.view.pointAt(place);
    if (!before) return;
    const places = [...this.pointers.values()];
    this.pointers.set(event.pointerId, place);
    if (this.pointers.size === 2) this.pinch(places, [...this.pointers.values()]);
    else this.drag(place, before);
  }

  pinch(before, after) {
    const spread = ([[x, y], [u, v]]) => Math.hypot(u - x, v - y) || 1;
    const middle = ([[x, y], [u, v]]) => [(x + u) / 2, (y + v) / 2];
    const [from, to] = [middle(before), middle(after)];
    this.view.zoomBy(spread(after) / spread(before), to);
    this.view.pan(to[0] - from[0], to[1] - from[1]);
  }

  /** Sideways changes the width of the window, up and down its level. */
  contrast([x0, y0]) {
    if (!this.view.frame) return () => {};
    const [low, high] = this.view.range;
    return ([x, y]) => {
      const width = (high - low) * 2 ** (((x - x0) / this.canvas.width) * 4);
      const level = (low + high) / 2 + ((y - y0) / this.canvas.height) * (high - low);
      this.view.fixRounded(level - width / 2, level + width / 2);
    };
  }
}
