// Draws frames with WebGL2, exactly: whole values in the texture, contrast and colours in the shader.

import { table } from "./colormaps.js";
import { BAYER, BGR, MAPPED, RGB, VERTEX, fragment } from "./shaders.js";

const COLOURS = { rgb: RGB, rgba: RGB, bgr: BGR, bgra: BGR };
const RED = { rggb: [0, 0], rg: [0, 0], grbg: [1, 0], gr: [1, 0], gbrg: [0, 1], gb: [0, 1], bggr: [1, 1], bg: [1, 1] };

/** How the shader colours a frame: {colour, red}. */
export function colouring(colour, channels) {
  const [order, pattern] = String(colour ?? "gray").toLowerCase().split("_");
  if (order === "bayer" && channels === 1) return { colour: BAYER, red: RED[pattern] ?? [0, 0] };
  return { colour: channels >= 3 ? (COLOURS[order] ?? MAPPED) : MAPPED, red: [0, 0] };
}

export class Picture {
  /** Throws where the browser has no WebGL2. */
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { alpha: false, antialias: false, depth: false, stencil: false });
    if (!this.gl) throw new Error("no WebGL2");
    this.build();
  }

  /** Makes what lives on the graphics card: at the start, and once more after the card was lost. */
  build() {
    const { gl } = this;
    this.programs = new Map();
    this.largest = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    this.map = { texture: texture(gl), name: null };
    this.tiles = [];
    this.layout = null;
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  }

  /** Takes a frame: values of `shape` (h, w, c), or a decoded image. */
  load(values, [height, width, channels = 1]) {
    const { gl } = this;
    const format = formatOf(gl, values, channels);
    const layout = `${height} ${width} ${format.inside}`;
    if (layout !== this.layout) this.arrange(width, height, format);
    this.layout = layout;
    gl.activeTexture(gl.TEXTURE0);
    gl.pixelStorei(gl.UNPACK_ROW_LENGTH, ArrayBuffer.isView(values) ? width : 0);
    for (const tile of this.tiles) {
      gl.bindTexture(gl.TEXTURE_2D, tile.texture);
      gl.pixelStorei(gl.UNPACK_SKIP_PIXELS, tile.x);
      gl.pixelStorei(gl.UNPACK_SKIP_ROWS, tile.y);
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, tile.width, tile.height, format.order, format.type, values);
    }
    for (const name of [gl.UNPACK_ROW_LENGTH, gl.UNPACK_SKIP_PIXELS, gl.UNPACK_SKIP_ROWS]) gl.pixelStorei(name, 0);
    this.format = format;
  }

  /** Textures for a frame: several where it is larger than one may be. */
  arrange(width, height, format) {
    const { gl, largest } = this;
    for (const tile of this.tiles) gl.deleteTexture(tile.texture);
    this.tiles = [];
    for (let y = 0; y < height; y += largest) {
      for (let x = 0; x < width; x += largest) {
        const tile = { x, y, width: Math.min(largest, width - x), height: Math.min(largest, height - y) };
        tile.texture = texture(gl);
        gl.texStorage2D(gl.TEXTURE_2D, 1, format.inside, tile.width, tile.height);
        this.tiles.push(tile);
      }
    }
  }

  setMap(name) {
    const { gl } = this;
    if (this.map.name === name) return;
    this.map.name = name;
    gl.activeTexture(gl.TEXTURE1);
    gl.bindTexture(gl.TEXTURE_2D, this.map.texture);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB8, 256, 1, 0, gl.RGB, gl.UNSIGNED_BYTE, table(name));
  }

  /** Draws the loaded frame: `toFrame` maps the canvas to the whole frame, of which it has `region` by `step`. */
  draw({ toFrame, region, step, colour, red, channel, map, low, high, ground }) {
    const { gl, canvas } = this;
    this.setMap(map);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(...ground, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    if (!this.format) return;
    const at = this.program(this.format.sampler, colour);
    gl.useProgram(at.program);
    gl.uniform1i(at.frame, 0);
    gl.uniform1i(at.map ?? null, 1);
    gl.uniform2i(at.red ?? null, ...red);
    gl.uniform1i(at.channel ?? null, channel);
    gl.uniform1f(at.low, low);
    gl.uniform1f(at.scale, high > low ? 255 / (high - low) : 3e38);
    gl.uniform1f(at.unit, this.format.unit);
    const [a, b, c, d, e, f] = toFrame;
    const [y0, , x0] = region;
    const [down, across] = step;
    // WebGL counts rows of the canvas from below.
    gl.uniform4f(at.turn, a / across, c / down, -b / across, -d / down);
    for (const tile of this.tiles) {
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, tile.texture);
      const x = (e + b * canvas.height - x0) / across - tile.x;
      const y = (f + d * canvas.height - y0) / down - tile.y;
      gl.uniform2f(at.origin, x, y);
      gl.uniform2i(at.size, tile.width, tile.height);
      gl.enable(gl.SCISSOR_TEST);
      gl.scissor(...box(toFrame, canvas, x0 + tile.x * across, y0 + tile.y * down,
        tile.width * across, tile.height * down));
      gl.drawArrays(gl.TRIANGLES, 0, 3);
      gl.disable(gl.SCISSOR_TEST);
    }
  }

  /** The program for a kind of texture and of colours, made when it is first needed. */
  program(sampler, colour) {
    const name = `${sampler} ${colour}`;
    if (!this.programs.has(name)) this.programs.set(name, program(this.gl, sampler, colour));
    return this.programs.get(name);
  }

  /** What was drawn last, as RGBA rows from above; only in the task that drew it. */
  read(x = 0, y = 0, width = this.canvas.width, height = this.canvas.height) {
    const { gl, canvas } = this;
    const pixels = new Uint8Array(width * height * 4);
    gl.readPixels(x, canvas.height - y - height, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    const rows = new Uint8Array(pixels.length);
    for (let row = 0; row < height; row += 1) {
      rows.set(pixels.subarray((height - 1 - row) * width * 4, (height - row) * width * 4), row * width * 4);
    }
    return rows;
  }

  release() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

function formatOf(gl, values, channels) {
  const place = channels - 1;
  const whole = [gl.RED_INTEGER, gl.RG_INTEGER, gl.RGB_INTEGER, gl.RGBA_INTEGER][place];
  if (values instanceof Uint8Array) {
    const inside = [gl.R8UI, gl.RG8UI, gl.RGB8UI, gl.RGBA8UI][place];
    return { inside, order: whole, type: gl.UNSIGNED_BYTE, sampler: "usampler2D", unit: 1 };
  }
  if (values instanceof Uint16Array) {
    const inside = [gl.R16UI, gl.RG16UI, gl.RGB16UI, gl.RGBA16UI][place];
    return { inside, order: whole, type: gl.UNSIGNED_SHORT, sampler: "usampler2D", unit: 1 };
  }
  if (values instanceof Float32Array) {
    const inside = [gl.R32F, gl.RG32F, gl.RGB32F, gl.RGBA32F][place];
    const order = [gl.RED, gl.RG, gl.RGB, gl.RGBA][place];
    return { inside, order, type: gl.FLOAT, sampler: "sampler2D", unit: 1 };
  }
  return { inside: gl.RGBA8, order: gl.RGBA, type: gl.UNSIGNED_BYTE, sampler: "sampler2D", unit: 255 };
}

function texture(gl) {
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
  for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
  return made;
}

/** A compiled program and the places of its uniforms. */
function program(gl, sampler, colour) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, fragment(sampler, colour)]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = gl.getAttachedShaders(made).map((shader) => gl.getShaderInfoLog(shader));
    throw new Error(`the shader does not compile: ${logs.join(" ")}`);
  }
  const places = { program: made };
  for (let index = 0; index < gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS); index += 1) {
    const { name } = gl.getActiveUniform(made, index);
    places[name] = gl.getUniformLocation(made, name);
  }
  return places;
}

/** The part of the canvas that a rectangle of the frame covers, for scissor: x, y from below, width, height. */
function box([a, b, c, d, e, f], canvas, x, y, width, height) {
  const square = a * a + c * c;
  const xs = [], ys = [];
  for (const [p, q] of [[x, y], [x + width, y + height]]) {
    xs.push((a * (p - e) + c * (q - f)) / square);
    ys.push((b * (p - e) + d * (q - f)) / square);
  }
  const left = Math.max(Math.floor(Math.min(...xs)), 0);
  const right = Math.min(Math.ceil(Math.max(...xs)), canvas.width);
  const top = Math.max(Math.floor(Math.min(...ys)), 0);
  const bottom = Math.min(Math.ceil(Math.max(...ys)), canvas.height);
  return [left, canvas.height - bottom, Math.max(right - left, 0), Math.max(bottom - top, 0)];
}
