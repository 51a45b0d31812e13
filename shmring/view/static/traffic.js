// What goes through a ring: charts of the last two minutes, the producer, and a table of consumers.

import { el, say } from "./dom.js";
import { Plot, colour } from "./plots.js";
import * as words from "./words.js";

const KEPT = 120; // seconds

const CHARTS = [
  { key: "rate", title: "Frames/s", value: ({ rate }) => [rate], text: ({ rate }) => words.rate(rate ?? 0) },
  { key: "bandwidth", title: "Bytes/s", value: (ring) => [ring.nbytes_rate], text: (ring) => words.bytes(ring.nbytes_rate ?? 0) },
  { key: "fill", title: "Fill", value: ({ fill }) => [fill === null ? null : fill * 100], text: ({ fill }) => `${Math.round((fill ?? 0) * 100)} %`, range: [0, 100] },
  { key: "lag", title: "Lag in frames", value: (ring) => ring.consumers.map((one) => one.lag), each: true },
  { key: "losses", title: "Frames lost", value: (ring) => ring.consumers.map((one) => one.lost), each: true },
];

export class Traffic {
  constructor() {
    this.history = []; // [seconds, ring]
    this.producer = el("p.producer");
    this.rows = el("tbody");
    this.charts = CHARTS.map((chart) => ({
      ...chart,
      figure: el("span.figure"),
      place: el("div.plot.small", { role: "img", "aria-label": `${chart.title}, the last two minutes` }),
    }));
    this.table = el("table.consumers", {},
      el("caption.unseen", {}, "Consumers"),
      el("thead", {}, el("tr", {}, ["Consumer", "Policy", "Lag", "Lost"].map((name) => el("th", { scope: "col" }, name)))),
      this.rows);
    this.element = el("details.traffic", { ontoggle: () => this.draw() },
      el("summary", {}, el("span", {}, "Traffic"), this.brief = el("span.brief")),
      this.producer, el("div.scroll", { tabIndex: 0, role: "region", "aria-label": "Consumers" }, this.table),
      el("div.charts", {}, this.charts.map(({ title, figure, place }) =>
        el("figure", {}, el("figcaption", {}, title, figure), place))));
  }

  update(ring) {
    const now = performance.now() / 1000;
    this.history.push([now, ring]);
    while (this.history.length > KEPT + 1 || now - this.history[0][0] > KEPT) this.history.shift();
    this.ring = ring;
    say(this.brief, `${words.rate(ring.rate ?? 0)}/s, ${words.bytes(ring.nbytes_rate ?? 0)}/s`);
    if (this.element.open) this.draw();
  }

  draw() {
    if (!this.element.open || !this.ring) return;
    const { producer, consumers } = this.ring;
    say(this.producer, producer ? `Producer: ${producer.command ?? "a process"}, pid ${producer.pid}` : "No producer");
    this.rows.replaceChildren(...consumers.map((one, index) => {
      const swatch = el("span.swatch", { "aria-hidden": "true" });
      swatch.style.background = colour(index);
      return el("tr", {}, el("td", {}, swatch, one.label || `pid ${one.pid}`), el("td", {}, one.policy),
        el("td", {}, words.whole(one.lag ?? 0)), el("td", { className: one.lost ? "bad" : "" }, words.whole(one.lost ?? 0)));
    }));
    for (const chart of this.charts) this.drawChart(chart);
  }

  drawChart(chart) {
    const lines = chart.each ? Math.max(this.ring.consumers.length, 1) : 1;
    if (chart.plot?.lines !== lines) {
      chart.plot?.destroy();
      const series = Array.from({ length: lines }, (_, index) => ({
        stroke: colour(index), fill: chart.each ? undefined : `${colour(0)}22`,
      }));
      const range = chart.range ?? ((_, low, high) => [0, Math.max(high * 1.1, 1)]);
      chart.plot = new Plot(chart.place, { series, quiet: true, scales: { y: { range } } });
      chart.plot.lines = lines;
    }
    const last = this.history.at(-1)[0];
    const x = this.history.map(([when]) => when - last);
    const values = this.history.map(([, ring]) => chart.value(ring));
    chart.plot.show([x, ...Array.from({ length: lines }, (_, index) => values.map((row) => row[index] ?? null))]);
    say(chart.figure, chart.text?.(this.ring) ?? "");
  }

  destroy() {
    for (const chart of this.charts) chart.plot?.destroy();
  }
}
