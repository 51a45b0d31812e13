// A frame as the server sends it: the length of a JSON header, the header, zeros up to 16 bytes, the values.

const ARRAYS = { "|u1": Uint8Array, "<u2": Uint16Array, "<f4": Float32Array, "<f8": Float64Array };

/** Returns {header, values, bytes}: values is a typed array (null if encoded or without a payload). */
export function parse(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const start = Math.ceil((4 + length) / 16) * 16;
  const bytes = start < buffer.byteLength ? new Uint8Array(buffer, start) : null;
  const raw = bytes && (header.encoding ?? "raw") === "raw";
  const Kind = ARRAYS[header.dtype];
  return { header, bytes, values: raw ? new Kind(buffer, start) : null };
}

/** An encoded picture, decoded without any change of its values. */
export function decode(bytes) {
  return createImageBitmap(new Blob([bytes]), { premultiplyAlpha: "none", colorSpaceConversion: "none" });
}
