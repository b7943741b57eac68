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

/** A chart of bars in the element `id`. Values above `limit` get the colour of bad ones. */
function bars(id, { xs, ys, height, label, names, format, xAxis, limit }) {
  const place = document.getElementById(id);
  const good = ys.map((y) => limit !== undefined && y > limit ? null : y);
  const bad = ys.map((y) => limit !== undefined && y > limit ? y : null);
  const series = (stroke) => ({
    label,
    stroke,
    fill: stroke,
    width: 0,
    points: { show: false },
    paths: uPlot.paths.bars({ size: [0.86, 48] }),
    value: (_, y) => y === null || y === undefined ? "–" : format(y),
  });
  const columns = [xs, good];
  const all = [
    { label: names.label, value: (_, x) => x === null ? "–" : names.of(x) },
    series(color("--bar")),
  ];
  if (bad.some((y) => y !== null)) {
    columns.push(bad);
    all.push({ ...series(color("--bad")), label: `${label}, below the threshold` });
  }
  const inner = place.clientWidth - 34;
  plots.push(
    new uPlot(
      {
        width: inner,
        height,
        scales: {
          x: { time: false, range: (_, low, high) => [low - 0.6, high + 0.6] },
          y: { range: (_, _low, high) => [0, high * 1.05 || 1] },
        },
        series: all,
        axes: [axis({ ...xAxis }), axis({ size: 64, values: (_, ticks) => ticks.map(format) })],
        legend: { live: true },
        cursor: { y: false, drag: { x: true, y: false } },
      },
      columns,
      place,
    ),
  );
}

function draw() {
  while (plots.length > 0) plots.pop().destroy();
  const { layers, histograms } = data;
  const percent = (y) => `${Number((100 * y).toPrecision(3))} %`;
  if (layers.length > 0) {
    bars("errors", {
      xs: layers.map((_, i) => i),
      ys: layers.map(({ error }) => error),
      height: 280,
      label: "relative error",
      names: { label: "layer", of: (x) => layers[x]?.name ?? "" },
      format: percent,
      xAxis: { values: (_, ticks) => ticks.map((x) => Number.isInteger(x) ? `#${x}` : "") },
      limit: data.limit,
    });
  }
  histograms.forEach(({ counts }, i) => {
    const total = counts.reduce((sum, count) => sum + count, 0);
    bars(`histogram${i}`, {
      xs: counts.map((_, at) => at - 127),
      ys: counts.map((count) => count / total),
      height: 170,
      label: "share",
      names: { label: "code", of: String },
      format: percent,
      xAxis: {},
    });
  });
  document.body.dataset.drawn = String(plots.length);
}

draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
let resized;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(draw, 150);
});
