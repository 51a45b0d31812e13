// Names of channels.

/** What attrs say: the labels of the channel axis, or `names`; an empty list where they say nothing. */
export function channelNames({ names, axes }) {
  const labels = Array.isArray(axes) ? axes.find((axis) => axis?.type === "channel")?.labels : null;
  return [labels, names].find(Array.isArray) ?? [];
}
