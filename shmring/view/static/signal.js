// The body of a panel that shows signals: scrolling traces and their spectrum.

import { el, say } from "./dom.js";
import { channelNames } from "./names.js";
import { Plot, colour } from "./plots.js";
import * as words from "./words.js";

const HOLE = "the newest samples have a gap, or a value that is no number.";
const TOO_FEW = "it takes at least 8 samples. Choose a longer time.";
const MOST_NAMED = 3;
const SPANS = [0.1, 0.5, 1, 2, 5, 10, 30, 60];

export class SignalView {
  constructor(host, settings) {
    this.host = host;
    this.seconds = settings.seconds ?? 2;
    this.spectrum = settings.spectrum ?? false;
    this.hidden = new Set(settings.hidden ?? []);
    this.traces = el("div.plot.traces", { role: "img", tabIndex: 0, "aria-label": `Traces of ring ${host.schema.name}` });
    this.noSpectrum = el("p.note", { hidden: true });
    this.lines = el("div.spectrum", { hidden: true }, this.noSpectrum,
      this.spectra = el("div.plot", { role: "img", "aria-label": `Spectrum of ring ${host.schema.name}` }));
    this.readout = el("output.readout", { hidden: true });
    this.element = el("div.stage.signal", {}, el("div.canvas", {}, this.traces, this.readout), this.lines);
    this.makeInspector();
  }

  makeInspector() {
    this.spans = el("select", {
      "aria-label": "Time shown",
      onchange: () => this.setSeconds(+this.spans.value),
    }, SPANS.map((span) => el("option", { value: span }, `${span} s`)));
    this.spans.value = this.seconds;
    this.box = el("input", { type: "checkbox", checked: this.spectrum, onchange: () => this.setSpectrum(this.box.checked) });
    this.list = el("div.channels");
    this.inspector = el("section.settings", { "aria-label": "Signal settings" },
      el("h3", {}, "Time shown"), el("div.row", {}, this.spans),
      el("label.check", {}, this.box, "Spectrum (FFT)"),
      el("h3", {}, "Channels"), this.list);
  }

  get settings() {
    return { seconds: this.seconds, spectrum: this.spectrum, hidden: [...this.hidden] };
  }

  want() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(Math.round(this.traces.clientWidth * ratio), 64);
    return { mode: "signal", width, height: 1, region: null, seconds: this.seconds, fft: this.spectrum };
  }

  async show({ header, values }) {
    this.frame = { header, values };
    const { channels, points } = header;
    if (this.made !== `${channels} ${header.unit} ${header.x_unit}`) this.make(header);
    const each = points === header.samples ? 1 : 2; // a column of several samples: its lowest and its highest
    const x = Float64Array.from({ length: points * each }, (_, place) => header.x0 + (place / each) * header.dx);
    const traces = Array.from({ length: channels }, (_, channel) => {
      const start = channel * 2 * points;
      const trace = new Array(each * points);
      for (let index = 0; index < points; index += 1) {
        trace[each * index] = finite(values[start + index]);
        if (each > 1) trace[each * index + 1] = finite(values[start + points + index]);
      }
      return trace;
    });
    this.plot.show([x, ...traces]);
    this.showSpectrum(header, values);
  }

  showSpectrum(header, values) {
    this.lines.hidden = !this.spectrum;
    if (!this.spectrum) return;
    const { channels, points, fft_points: number, fft_x0: first = 0, df } = header;
    const x = Float64Array.from({ length: number }, (_, index) => first + index * df);
    const start = channels * 2 * points;
    const lines = Array.from({ length: header.complex ? channels / 2 : channels }, (_, channel) =>
      Array.from(values.subarray(start + channel * number, start + (channel + 1) * number), finite));
    const none = this.series.slice(0, lines.length).filter((_, index) => lines[index].every((level) => level === null));
    this.noSpectrum.hidden = !none.length;
    const whose = none.length > MOST_NAMED ? words.count(none.length, "channel") : none.map(({ label }) => label).join(", ");
    say(this.noSpectrum, `No spectrum of ${whose}: ${number ? HOLE : TOO_FEW}`);
    this.fft.show([x, ...lines]);
  }

  make(header) {
    this.made = `${header.channels} ${header.unit} ${header.x_unit}`;
    this.plot?.destroy();
    this.fft?.destroy();
    const names = traceNames(channelNames(this.host.schema), header);
    const series = names.map((label, index) => ({ label, stroke: colour(index), show: !this.hidden.has(index) }));
    this.series = series;
    const inSamples = header.x_unit === "samples";
    this.plot = new Plot(this.traces, {
      series, x: inSamples ? "samples" : "seconds", y: header.unit || undefined,
      hooks: { setCursor: [(plot) => this.point(plot, names)] },
    });
    const spectra = header.complex ? series.slice(0, header.channels / 2) : series;
    this.fft = new Plot(this.spectra, { series: spectra, x: inSamples ? "cycles per sample" : "Hz", y: "dB" });
    this.list.replaceChildren(...names.map((name, index) => {
      const swatch = el("span.swatch", { "aria-hidden": "true" });
      swatch.style.background = colour(index);
      const box = el("input", { type: "checkbox", checked: !this.hidden.has(index), onchange: () => this.toggle(index, box.checked) });
      return el("label.check", {}, box, swatch, name);
    }));
  }

  point(plot, names) {
    const { idx } = plot.cursor;
    this.readout.hidden = idx === null || idx === undefined;
    if (this.readout.hidden) return;
    const unit = this.frame.header.unit ? ` ${this.frame.header.unit}` : "";
    const parts = names.map((name, index) => ({ name, index })).filter(({ index }) => !this.hidden.has(index))
      .map(({ name, index }) => `${name} ${words.value(plot.data[index + 1][idx] ?? NaN)}${unit}`);
    const seconds = this.frame.header.x_unit === "samples" ? "" : " s";
    say(this.readout, [`${words.value(plot.data[0][idx])}${seconds}`, ...parts].join("   "));
  }

  toggle(index, shown) {
    if (shown) this.hidden.delete(index);
    else this.hidden.add(index);
    this.series[index].show = shown;
    for (const one of [this.plot, this.fft]) {
      if (one.options.series.length > index) one.plot?.setSeries(index + 1, { show: shown });
    }
    this.host.changed();
  }

  setSeconds(seconds) {
    this.seconds = seconds;
    this.spans.value = seconds;
    this.host.wanted();
    this.host.changed();
  }

  setSpectrum(shown) {
    this.spectrum = this.box.checked = shown;
    this.host.wanted();
    if (this.frame) this.showSpectrum(this.frame.header, this.frame.values);
    this.host.changed();
  }

  png() {
    const plot = this.traces.querySelector("canvas");
    if (!plot) return Promise.resolve(null);
    const { width, height } = plot;
    const canvas = el("canvas", { width, height });
    const pen = canvas.getContext("2d");
    pen.fillStyle = getComputedStyle(this.element).getPropertyValue("--surface");
    pen.fillRect(0, 0, width, height); // the plot has no ground of its own
    pen.drawImage(plot, 0, 0);
    return new Promise((done) => canvas.toBlob(done));
  }

  key({ key }) {
    const at = SPANS.indexOf(this.seconds);
    const does = {
      "-": () => this.setSeconds(SPANS[Math.min(at + 1, SPANS.length - 1)]),
      "+": () => this.setSeconds(SPANS[Math.max(at - 1, 0)]),
      "=": () => this.setSeconds(SPANS[Math.max(at - 1, 0)]),
      f: () => this.setSpectrum(!this.spectrum),
    }[key];
    does?.();
    return does !== undefined;
  }

  answer() {}

  reset() {}

  destroy() {
    this.plot?.destroy();
    this.fft?.destroy();
  }
}

/** Channels have the names that attrs give them, or numbers; complex ones have two traces. */
function traceNames(named, { channels, complex }) {
  const number = complex ? channels / 2 : channels;
  const names = Array.from({ length: number }, (_, index) => named[index] ?? `channel ${index}`);
  return complex ? ["real", "imaginary"].flatMap((part) => names.map((name) => `${name}, ${part}`)) : names;
}

const finite = (number) => (Number.isFinite(number) ? number : null);
