// What the graphics card runs: looks up the pixel of the frame under each pixel of the panel, and colours it.

export const VERTEX = `#version 300 es
void main() {  // one triangle over the whole panel
  gl_Position = vec4(gl_VertexID == 1 ? 3 : -1, gl_VertexID == 2 ? 3 : -1, 0, 1);
}`;

/** The way from values to colours; each is a program of its own, since branches cost where there is no card. */
export const MAPPED = 0, RGB = 1, BGR = 2, BAYER = 3;

/** For integers (usampler2D) or other numbers (sampler2D). */
export const fragment = (sampler, colour) => `#version 300 es
#define COLOUR ${colour}
precision highp float;
precision highp int;
uniform highp ${sampler} frame;
uniform sampler2D map;     // 256 colours
uniform vec4 turn;         // from pixels of the panel to pixels of the texture
uniform vec2 origin;
uniform ivec2 size;
uniform ivec2 red;         // Bayer: where the red pixel of the first four is
uniform int channel;       // which channel a colour map shows
uniform float low;
uniform float scale;       // 255 / (high - low)
uniform float unit;        // what the texture calls 1: 255 in normalised ones
out vec4 shown;

vec4 at(ivec2 place) { return vec4(texelFetch(frame, place, 0)) * unit; }

vec3 window(vec3 values) { return clamp((values - low) * scale, 0.0, 255.0); }

#if COLOUR == ${BAYER}
int site(ivec2 place) {  // 0: red, 1: green, 2: blue
  ivec2 off = (place + red) & 1;
  return off.x + off.y;
}

vec3 bayer(ivec2 place) {  // bilinear: each colour is the mean of its nearest sites
  vec3 total = vec3(0), weight = vec3(0);
  for (int y = -1; y <= 1; y++) for (int x = -1; x <= 1; x++) {
    ivec2 there = place + ivec2(x, y);
    if (any(lessThan(there, ivec2(0))) || any(greaterThanEqual(there, size))) continue;
    int kind = site(there);
    if (kind == site(place) && there != place) continue;  // a pixel's own colour is its own value
    total[kind] += at(there).r;
    weight[kind] += 1.0;
  }
  return total / max(weight, vec3(1));
}
#endif

void main() {
  ivec2 place = ivec2(floor(mat2(turn.xy, turn.zw) * gl_FragCoord.xy + origin));
  if (any(lessThan(place, ivec2(0))) || any(greaterThanEqual(place, size))) discard;
#if COLOUR == ${MAPPED}
  float value = at(place)[channel];
  if (isnan(value)) discard;
  shown = texelFetch(map, ivec2(int(window(vec3(value)).x + 0.5), 0), 0);
#else
#if COLOUR == ${BAYER}
  vec3 rgb = bayer(place);
#elif COLOUR == ${BGR}
  vec3 rgb = at(place).bgr;
#else
  vec3 rgb = at(place).rgb;
#endif
  if (isnan(rgb.r + rgb.g + rgb.b)) discard;
  shown = vec4(window(rgb) / 255.0, 1);
#endif
}`;
