// What the address keeps, so that a reload shows the same: #ring=camera&map=magma&levels=0,4095&ring=mic&seconds=5

const NUMBERS = (text) => text.split(",").map(Number);

/** The panels of an address: [[id, settings], ...]. */
export function read(hash) {
  const panels = [];
  for (const [key, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (key === "ring") panels.push([value, {}]);
    else if (panels.length) readOne(panels.at(-1)[1], key, value);
  }
  return panels;
}

function readOne(settings, key, value) {
  if (key === "levels" && ["full", "auto", "percentile"].includes(value)) settings.levels = value;
  else if (key === "levels") {
    const fixed = NUMBERS(value);
    if (fixed.length === 2 && fixed.every(Number.isFinite)) Object.assign(settings, { levels: "fixed", fixed });
  } else if (key === "view") {
    const [turn, mirrored] = [value[0], value.endsWith("m")];
    if (/^[0-3]m?$/.test(value)) settings.orientation = { turn: Number(turn), mirrored };
  } else if (key === "map") settings.map = value;
  else if (key === "channel" && /^\d+$/.test(value)) settings.channel = Number(value);
  else if (key === "quality" && Number(value) >= 1 && Number(value) <= 95) settings.quality = Math.round(Number(value));
  else if (key === "seconds" && Number(value) > 0) settings.seconds = Number(value);
  else if (key === "spectrum") settings.spectrum = value === "1";
  else if (key === "hidden") settings.hidden = NUMBERS(value).filter(Number.isInteger);
}

/** The address of panels. */
export function write(panels) {
  const query = new URLSearchParams();
  for (const [id, settings] of panels) {
    query.append("ring", id);
    const { levels, fixed, orientation, map, channel, quality, seconds, spectrum, hidden } = settings;
    if (levels) query.append("levels", levels === "fixed" ? fixed.join(",") : levels);
    if (map && map !== "gray") query.append("map", map);
    if (orientation && (orientation.turn || orientation.mirrored)) {
      query.append("view", `${orientation.turn}${orientation.mirrored ? "m" : ""}`);
    }
    if (channel) query.append("channel", channel);
    if (quality) query.append("quality", quality);
    if (seconds) query.append("seconds", seconds);
    if (spectrum) query.append("spectrum", "1");
    if (hidden?.length) query.append("hidden", hidden.join(","));
  }
  return `#${query}`;
}
