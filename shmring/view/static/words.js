// Numbers and counts as people read them.

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const whole = (number) => plain.format(number);

export const count = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;

export const rate = (perSecond) => (perSecond >= 100 ? whole(perSecond) : one.format(perSecond));

/** Bytes with a unit: "62.2 MB". */
export function bytes(number) {
  let index = 0;
  const units = ["B", "kB", "MB", "GB", "TB"];
  while (number >= 999.5 && index < units.length - 1) {
    number /= 1000;
    index += 1;
  }
  return `${number >= 100 || index === 0 ? whole(number) : one.format(number)} ${units[index]}`;
}

/** A value of a frame: integers as they are, other numbers with six digits. */
export function value(number) {
  if (typeof number !== "number") return String(number);
  if (Number.isInteger(number) && Math.abs(number) < 1e15) return String(number);
  return String(Number(number.toPrecision(6)));
}

/** A value where there is little room: 4611686018427387904 is 4.612e18. */
export function short(number) {
  const size = Math.abs(number);
  if (size < 1e7 && (size >= 1e-3 || size === 0)) return value(number);
  return Number(number.toPrecision(4)).toExponential().replace("+", "");
}

/** A value of any kind: records and arrays with what is in them. */
export function nested(cell) {
  if (cell === null) return "";
  if (Array.isArray(cell)) return `[${cell.map(nested).join(", ")}]`;
  if (typeof cell !== "object") return value(cell);
  return `{${Object.entries(cell).map(([name, part]) => `${name}: ${nested(part)}`).join(", ")}}`;
}

export const milliseconds = (number) => `${number < 9.95 ? one.format(number) : whole(number)} ms`;

export const shape = (sizes) => (sizes.length === 0 ? "scalar" : sizes.join(" × "));

/** Shape and dtype of frames: "1080 × 1920 u1", "12, 4 fields". */
export const form = (sizes, type) => `${shape(sizes)}${Array.isArray(type) ? "," : ""} ${dtype(type)}`;

/** The dtype in numpy's short words: "<u2" is u2; fields are counted. */
export function dtype(type) {
  if (Array.isArray(type)) return count(type.length, "field");
  return String(type).replace(/^[<|=]/, "");
}
