// What is drawn over a picture: the line of the profile, and the cross that keys move.

const SVG = "http://www.w3.org/2000/svg";

function shape(tag, properties) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(properties)) made.setAttribute(name, value);
  return made;
}

export class Marks {
  constructor() {
    this.element = shape("svg", { class: "marks", "aria-hidden": "true" });
  }

  /** `line`: its two pixels or null; `cross`: a pixel or null; `at(pixel)`: where that is, in CSS pixels. */
  draw(line, cross, at) {
    this.element.replaceChildren(...(line ? ends(...line.map(at)) : []), ...(cross ? crossed(at(cross)) : []));
  }
}

function ends([x1, y1], [x2, y2]) {
  return [
    shape("line", { class: "under", x1, y1, x2, y2 }), shape("line", { x1, y1, x2, y2 }),
    shape("circle", { cx: x1, cy: y1, r: 4 }), shape("circle", { cx: x2, cy: y2, r: 4 }),
  ];
}

function crossed([x, y]) {
  const d = `M${x - 9} ${y}h18M${x} ${y - 9}v18`;
  return [shape("path", { class: "under", d }), shape("path", { d })];
}
