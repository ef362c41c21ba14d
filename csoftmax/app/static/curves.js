// The curves of a run: two charts, drawn by uPlot some 16 times a second at most, whatever arrives.
import {$, count, el, fixed, percent, short} from "./dom.js";
import {gently, on, pictures, state} from "./state.js";
import {t} from "./text.js";

const {uPlot} = window; // a script of its own, which runs before the modules
const HEIGHT = 218;

let charts = [];

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// What each kind of run shows: title, a line of explanation, y as a logarithm, series of (key, colour,
// how to write a value, whether its points are marked), and the data for uPlot.
const bySlice = (run, slice, epoch) =>
  uPlot.join([
    [run.slices.map((p) => p[0]), run.slices.map((p) => p[slice])],
    [run.epochs.map((p) => p[0]), run.epochs.map((p) => p[epoch])],
  ]);
const byPass = (run, column) => [run.passes.map((p) => p[0]), run.passes.map((p) => positive(p[column]))];
// a point: C, training accuracy, test loss, test accuracy, features in use, loss and accuracy of the held-out part
const bySweep = (run, ...columns) => [
  run.sweep.map((p) => p[0]),
  ...columns.map((c) => run.sweep.map((p) => p[c])),
];
const positive = (v) => (v > 0 ? v : null);

const KINDS = {
  sgd: (run) => [
    {
      key: "accuracy",
      unit: percent,
      data: () => bySlice(run, 2, 4),
      series: [
        ["train", "--train"],
        ["test", "--test", true],
      ],
    },
    {
      key: "loss",
      unit: fixed,
      data: () => bySlice(run, 1, 3),
      series: [
        ["train", "--train"],
        ["test", "--test", true],
      ],
    },
  ],
  lbfgs: (run) => [
    {key: "objective", unit: fixed, data: () => byPass(run, 1), series: [["objective", "--train", true]]},
    {
      key: "estimate",
      unit: short,
      log: true,
      data: () => byPass(run, 2),
      series: [["estimate", "--test", true]],
    },
  ],
  sweep: (run) => [
    {
      key: "sweep.accuracy",
      unit: percent,
      logX: true,
      data: () => bySweep(run, 1, 6, 3),
      series: [
        ["train", "--train", true],
        ["held", "--held", true],
        ["test", "--test", true],
      ],
    },
    run.settings?.l1_ratio > 0
      ? {
          key: "selected",
          unit: count,
          logX: true,
          data: () => bySweep(run, 4),
          series: [["selected", "--train", true]],
        }
      : {
          key: "sweep.loss",
          unit: fixed,
          logX: true,
          data: () => bySweep(run, 5, 2),
          series: [
            ["held", "--held", true],
            ["test", "--test", true],
          ],
        },
  ],
};

class Chart {
  constructor(host, spec, run) {
    this.spec = spec;
    this.values = spec.series.map(() => el("output", {}));
    this.plot = el("div", {className: "plot", role: "img"});
    const legend = spec.series.map(([key, colour], i) => {
      const swatch = el("i", {ariaHidden: "true"});
      swatch.style.background = `var(${colour})`;
      return el("span", {}, swatch, t(`series.${key}`), this.values[i]);
    });
    host.append(
      el(
        "section",
        {className: "chart"},
        el("h3", {textContent: t(`curve.${spec.key}`)}),
        el("p", {className: "soft small", textContent: t(`curve.${spec.key}.hint`)}),
        el("p", {className: "legend"}, ...legend),
        this.plot,
      ),
    );
    this.u = new uPlot(this.options(run), [[], ...spec.series.map(() => [])], this.plot);
    this.resize = new ResizeObserver(() => this.fit());
    this.resize.observe(this.plot);
  }

  options(run) {
    const {spec} = this;
    const axis = {
      stroke: css("--soft"),
      font: `12px ${css("--font")}`,
      ticks: {show: false},
      grid: {stroke: css("--line"), width: 1},
      gap: 6,
    };
    const x =
      run.kind === "sweep"
        ? {time: false, distr: 3, range: sweepRange(run)}
        : {time: false, range: [0, run.kind === "sgd" ? run.x_end : null]};
    if (run.kind === "lbfgs") x.range = (u, low, high) => [0, Math.max(5, high ?? 0)];
    const tick = spec.unit === percent ? (v) => percent(v, 0) : short;
    const decades = {splits: (u, at, low, high) => powersOfTen(low, high)};
    const whole = {incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500]};
    return {
      width: Math.max(200, this.plot.clientWidth),
      height: HEIGHT,
      padding: [10, 16, 0, 0],
      legend: {show: false},
      cursor: {sync: {key: "csoftmax"}, drag: {x: false, y: false}, points: {size: 8}},
      scales: {
        x,
        y: spec.log
          ? {distr: 3, range: (u, low, high) => aroundDecades(low, high)}
          : {range: (u, low, high) => padded(low, high, spec)},
      },
      axes: [
        {
          ...axis,
          size: 28,
          space: 36,
          label: t(`axis.${run.kind}`),
          labelSize: 18,
          labelGap: -4,
          labelFont: `12px ${css("--font")}`,
          ...(spec.logX ? decades : whole),
          values: (u, ticks) => ticks.map((v) => (v === null ? "" : short(v))),
        },
        {
          ...axis,
          size: 52,
          ...(spec.log ? decades : {}),
          values: (u, ticks) => ticks.map((v) => (v === null ? "" : tick(v))),
        },
      ],
      series: [
        {},
        ...spec.series.map(([, colour, marked]) => ({
          stroke: css(colour),
          width: marked ? 2.25 : 1.5,
          spanGaps: true,
          points: {show: marked ? (u) => u.data[0].length <= 600 : false, size: 5, fill: css(colour)},
        })),
      ],
      hooks: {setCursor: [(u) => this.say(u.cursor.idx)]},
    };
  }

  fit() {
    const width = this.plot.clientWidth;
    if (width > 0 && width !== this.u.width) this.u.setSize({width, height: HEIGHT});
  }

  draw() {
    this.u.setData(this.spec.data());
    this.say(this.u.cursor.idx);
    const last = this.spec.series
      .map(([key], i) => `${t(`series.${key}`)} ${this.values[i].textContent}`)
      .join(", ");
    this.plot.setAttribute("aria-label", `${t(`curve.${this.spec.key}`)}: ${last}`);
  }

  /** Write the values under the cursor, or the last ones. */
  say(at) {
    this.values.forEach((output, i) => {
      const ys = this.u?.data[i + 1] ?? [];
      let k = at ?? ys.length - 1;
      while (k >= 0 && (ys[k] === null || ys[k] === undefined)) k--;
      output.textContent = k >= 0 ? this.spec.unit(ys[k]) : "–";
    });
  }

  end() {
    this.resize.disconnect();
    this.u.destroy();
  }
}

function sweepRange(run) {
  const Cs = run.settings?.Cs ?? [];
  const low = Math.min(...Cs);
  const high = Math.max(...Cs);
  return Cs.length > 1 ? [low / 1.2, high * 1.2] : (u, a, b) => [(a ?? 1) / 2, (b ?? 1) * 2];
}

/** The powers of ten in a range, every second or third of them where there are many. */
function powersOfTen(low, high) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  const by = Math.max(1, Math.ceil((last - first) / 5));
  const out = [];
  for (let e = first; e <= last; e += by) out.push(10 ** e);
  return out;
}

function aroundDecades(low, high) {
  if (!(low > 0)) return [1e-6, 1];
  return [10 ** Math.floor(Math.log10(low) - 0.05), 10 ** Math.ceil(Math.log10(high) + 0.05)];
}

function padded(low, high, spec) {
  if (low === null) return spec.unit === percent ? [0, 1] : [0, 2.5];
  const room = Math.max(0.08 * (high - low), 0.004 * Math.abs(high), 1e-6);
  if (spec.unit === percent) return [Math.max(0, low - room), Math.min(1, high + room)];
  return [Math.max(0, low - room), high + room];
}

function build() {
  charts.forEach((chart) => chart.end());
  charts = [];
  const host = $("#charts");
  host.replaceChildren();
  const run = state.run;
  const hello = $("#hello");
  hello.hidden = Boolean(run);
  host.hidden = !run;
  if (!run) {
    if (state.data) {
      hello.replaceChildren(
        el("p", {className: "big", textContent: t("hello.title")}),
        el("p", {textContent: t(pictures() ? "hello.pictures" : "hello.table")}),
        el(
          "ol",
          {},
          ...t(pictures() ? "hello.steps" : "hello.steps.table").map((step) => el("li", {textContent: step})),
        ),
      );
    }
    return;
  }
  charts = KINDS[run.kind](run).map((spec) => new Chart(host, spec, run));
  draw();
}

function draw() {
  if (!state.run || state.view !== "train") return;
  charts.forEach((chart) => chart.draw());
  document.body.dataset.points = String(
    state.run.slices.length + state.run.passes.length + state.run.sweep.length,
  );
}

const redraw = gently(60, draw); // curves need not be as quick as the weights

export function start() {
  on("run data language theme", build);
  on("slice epoch pass point", redraw);
  on("view status", () => {
    charts.forEach((chart) => chart.fit());
    redraw();
  });
}
