// uPlot, set up alike everywhere: colours of the theme, no legend, as large as its place.

/** Ten colours that differ from each other on light and on dark ground. */
export const COLOURS = ["#2f7de1", "#d9730d", "#1f9d55", "#d6336c", "#8957e5", "#0f9ba8", "#b08800", "#e5484d", "#5c6f82", "#7a4f2b"];

export const colour = (index) => COLOURS[index % COLOURS.length];

const all = new Set();

/** Draws all plots again in the colours of a theme that has just changed. */
export function repaint() {
  for (const plot of all) plot.remake();
}

export class Plot {
  /** `options`: {series: [{label, stroke, fill}], x, y (axis words), scales, cursor(text), height}. */
  constructor(place, options) {
    this.place = place;
    this.options = options;
    this.data = null;
    this.resizes = new ResizeObserver(() => this.resize());
    this.resizes.observe(place);
    all.add(this);
  }

  get size() {
    return { width: Math.max(this.place.clientWidth, 40), height: Math.max(this.place.clientHeight, 40) };
  }

  make() {
    const style = getComputedStyle(document.documentElement);
    const ink = style.getPropertyValue("--muted").trim();
    const line = style.getPropertyValue("--line").trim();
    const font = "11px system-ui, sans-serif";
    const axis = (extra) => ({
      stroke: ink, font, labelFont: font, labelSize: 16, labelGap: 0, gap: 4, ticks: { show: false }, grid: { stroke: line, width: 1 }, ...extra,
    });
    const { x, y, series, scales, hooks, quiet } = this.options;
    return new uPlot({
      ...this.size,
      padding: [8, 18, quiet ? 4 : 0, 0],
      legend: { show: false },
      cursor: { show: Boolean(hooks), y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: { x: { time: false }, ...scales },
      axes: [
        axis({ show: !quiet, size: 20, label: x }),
        axis({ size: 46, label: y, space: 36, values: (_, ticks) => ticks.map(short) }),
      ],
      series: [{}, ...series.map((one) => ({ width: 1.25, points: { show: false }, spanGaps: false, ...one }))],
      hooks,
    }, this.data, this.place);
  }

  show(data) {
    this.data = data;
    if (this.plot) this.plot.setData(data);
    else this.plot = this.make();
  }

  resize() {
    this.plot?.setSize(this.size);
  }

  remake() {
    if (!this.plot) return;
    this.plot.destroy();
    this.plot = this.make();
  }

  destroy() {
    all.delete(this);
    this.resizes.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }
}

/** An axis value that needs little room: 12500 is 12.5k. */
function short(value) {
  if (value === null) return "";
  const size = Math.abs(value);
  if (size >= 1e9) return `${Number((value / 1e9).toPrecision(4))}G`;
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(4))}M`;
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(4))}k`;
  return String(Number(value.toPrecision(4)));
}
