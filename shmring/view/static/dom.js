// Makes elements, so that no text from a ring is ever read as HTML.

/** An element: `el("button.icon", {title: "Pause", onclick}, "text", child, ...)`. */
export function el(kind, properties = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const made = document.createElement(tag);
  made.classList.add(...classes);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list" && name !== "role") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

/** Sets the text only where it differs: screen readers and layout see no change that is none. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const PATHS = {
  rings: "M3 5h14M3 10h14M3 15h14",
  pause: "M7 4v12M13 4v12",
  play: "M6 4l10 6-10 6z",
  step: "M5 4l8 6-8 6zM15.5 4v12",
  camera: "M3 6.5h3.5L8 4.5h4l1.5 2H17v9H3zM10 8.5a2.5 2.5 0 1 0 .01 0",
  file: "M10 3v9M6 8.5l4 4 4-4M4 16.5h12",
  record: "M10 5a5 5 0 1 0 .01 0",
  stop: "M5.5 5.5h9v9h-9z",
  close: "M5 5l10 10M15 5L5 15",
  rotate: "M15.5 6.5A6.5 6.5 0 1 0 16.5 11M16 3v4h-4",
  mirror: "M10 3v14M7 6v8H2.5zM13 6v8h4.5z",
  flip: "M3 10h14M6 7h8V2.5zM6 13h8v4.5z",
  fit: "M3 7V3h4M13 3h4v4M17 13v4h-4M7 17H3v-4",
  plus: "M10 4v12M4 10h12",
  minus: "M4 10h12",
  line: "M4 16L16 4M3 14.5v3h3M14 2.5h3v3",
  help: "M7 7.5a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1-1.5 2.4M10 15.5v.6",
  sun: "M10 6.5a3.5 3.5 0 1 0 .01 0M10 1.5v2M10 16.5v2M1.5 10h2M16.5 10h2M4 4l1.4 1.4M14.6 14.6L16 16M4 16l1.4-1.4M14.6 5.4L16 4",
  moon: "M15.5 12.5A6.5 6.5 0 0 1 7.5 4.5a6.5 6.5 0 1 0 8 8z",
  side: "M3 4h14v12H3zM12.5 4v12",
};

/** A line drawing of 20 by 20. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("viewBox", "0 0 20 20");
  drawing.setAttribute("aria-hidden", "true");
  const path = drawing.appendChild(document.createElementNS(space, "path"));
  path.setAttribute("d", PATHS[name]);
  return drawing;
}

/** A button with a drawing; its label says what it does and which key does it, too. */
export function button(drawing, label, key, onclick) {
  const shown = key ? `${label} (${key})` : label;
  return el("button.icon", { type: "button", title: shown, "aria-label": label, "aria-keyshortcuts": key, onclick },
    icon(drawing));
}

/** Changes a button's drawing and label. */
export function relabel(element, drawing, label, key) {
  if (element.dataset.drawing === drawing && element.getAttribute("aria-label") === label) return;
  element.dataset.drawing = drawing;
  element.replaceChildren(icon(drawing));
  element.title = key ? `${label} (${key})` : label;
  element.setAttribute("aria-label", label);
}

/** Offers bytes or a blob as a file. */
export function download(blob, name) {
  const address = URL.createObjectURL(blob);
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
