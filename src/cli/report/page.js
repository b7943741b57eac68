/* Draws the charts of a report. Runs in the browser; `uPlot` stands before it, the data in #data. */

const data = JSON.parse(document.getElementById("data").textContent);
const plots = [];

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function axis(options) {
  return {
    stroke: color("--quiet"),
    grid: { stroke: color("--grid"), width: 1 },
    ticks: { stroke: color("--grid"), width: 1 },
    ...options,
  };
}

function percent(y) {
  return `${Number((100 * y).toPrecision(3))} %`;
}

function innerWidth(place) {
  const { paddingLeft, paddingRight } = getComputedStyle(place);
  return place.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
}

/** The path of a layer up to its block number: the label of an axis. */
function blockOf(name) {
  return /^(.*?\.\d+)\./.exec(name)?.[1] ?? name;
}

/** Bounds of a logarithmic axis around what is shown, so that small differences can be seen. */
function logBounds(values) {
  const low = Math.min(...values), high = Math.max(...values);
  const room = Math.max(1.1, (high / low) ** 0.08);
  return [low / room, high * room];
}

/** Round numbers between the bounds of a logarithmic axis. */
function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    const steps = high / low < 4 ? 90 : high / low < 30 ? 18 : 3;
    for (let i = 0; i < steps; i++) {
      const digit = steps === 3 ? [1, 2, 5][i] : 1 + (9 * i) / steps;
      const tick = digit * 10 ** power;
      if (tick >= low && tick <= high) ticks.push(Number(tick.toPrecision(4)));
    }
  }
  const every = Math.ceil(ticks.length / 8);
  return ticks.filter((_, i) => i % every === 0);
}

/** The errors of all layers of a file, as points. */
function pointSeries(label, stroke, size) {
  return {
    label,
    stroke,
    // The legend has the colour; the points have no line.
    width: 2,
    paths: () => null,
    points: { show: true, size, fill: stroke, stroke, width: 0 },
    value: (_, y) => errorText(y),
  };
}

/** A horizontal line to compare with. */
function lineSeries(label) {
  return {
    label,
    stroke: color("--bad"),
    width: 1,
    dash: [6, 4],
    points: { show: false },
    value: (_, y) => errorText(y),
  };
}

function errorText(y) {
  return y === null || y === undefined ? "–" : percent(y);
}

/** The errors of all layers as points, one series per file, with horizontal lines to compare with. */
function drawLayers({ names, series, lines }) {
  const place = document.getElementById("layers");
  const xs = names.map((_, i) => i);
  const positive = series.flatMap(({ errors }) => errors).filter((y) => y > 0);
  const [low, high] = positive.length === 0 ? [1e-4, 1] : logBounds(positive);
  // A line far from all points would press them together: it is drawn if it is near.
  const near = lines.filter(({ error }) => error >= low / 1.6 && error <= high * 1.6);
  const bounds = logBounds([low, high, ...near.map(({ error }) => error)]);
  const size = Math.max(3, Math.min(8, 2400 / names.length));
  plots.push(
    new uPlot(
      {
        width: innerWidth(place),
        height: 300,
        scales: {
          x: { time: false, range: (_, from, to) => [from - 0.6, to + 0.6] },
          y: { distr: 3, range: () => bounds },
        },
        series: [
          { label: "layer", value: (_, x) => x === null ? "–" : names[x] ?? "" },
          ...series.map(({ label }, i) =>
            pointSeries(label, color(["--bar", "--other", "--bad"][i]), size)
          ),
          ...near.map(({ label }) => lineSeries(label)),
        ],
        axes: [
          axis({
            space: 90,
            values: (_, ticks) =>
              ticks.map((x) => Number.isInteger(x) && names[x] ? blockOf(names[x]) : ""),
          }),
          axis({
            size: 64,
            splits: (_, __, from, to) => logTicks(from, to),
            filter: (_, splits) => splits,
            values: (_, ticks) => ticks.map(percent),
          }),
        ],
        cursor: { y: false, drag: { x: true, y: false } },
      },
      [
        xs,
        ...series.map(({ errors }) => errors.map((y) => y > 0 ? y : null)),
        ...near.map(({ error }) => xs.map(() => error)),
      ],
      place,
    ),
  );
}

/** How often each code occurs. */
function drawHistogram({ counts }, i) {
  const place = document.getElementById(`histogram${i}`);
  const total = counts.reduce((sum, count) => sum + count, 0);
  plots.push(
    new uPlot(
      {
        width: innerWidth(place),
        height: 170,
        scales: {
          x: { time: false, range: (_, low, high) => [low - 0.6, high + 0.6] },
          y: { range: (_, _low, high) => [0, high * 1.05 || 1] },
        },
        series: [
          { label: "code", value: (_, x) => x === null ? "–" : String(x) },
          {
            label: "share",
            stroke: color("--bar"),
            fill: color("--bar"),
            width: 0,
            points: { show: false },
            paths: uPlot.paths.bars({ size: [0.86, 48] }),
            value: (_, y) => y === null || y === undefined ? "–" : percent(y),
          },
        ],
        axes: [axis({}), axis({ size: 64, values: (_, ticks) => ticks.map(percent) })],
        cursor: { y: false, drag: { x: true, y: false } },
      },
      [counts.map((_, at) => at - 127), counts.map((count) => count / total)],
      place,
    ),
  );
}

function draw() {
  while (plots.length > 0) plots.pop().destroy();
  if (data.layers !== null) drawLayers(data.layers);
  data.histograms.forEach(drawHistogram);
  document.body.dataset.drawn = String(plots.length);
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
// The window keeps its size when a scroll bar takes some of it, the page does not.
let width = document.body.clientWidth;
let resized;
new ResizeObserver(() => {
  if (document.body.clientWidth === width) return;
  width = document.body.clientWidth;
  clearTimeout(resized);
  resized = setTimeout(draw, 150);
}).observe(document.body);
