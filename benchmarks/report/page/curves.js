// Reward against training step and against time, for the runs whose folder was at hand.

const WIDE = 420;
const HIGH = 250;

function curveCard(key) {
  const runs = report.curves.map((curve, index) => ({ ...curve, index, found: curve.rewards[key] }));
  const shown = runs.filter((run) => run.found !== undefined);
  const charts = [
    [0, 1, "training step"],
    [1, 60, "minutes of training"],
  ].map(([column, unit, name]) => chart(key, shown, column, unit, name));
  const legend = element("figcaption", { className: "legend" });
  for (const run of shown) {
    const evaluated = run.evaluated.map(([step]) => step).join(", ");
    const name = evaluated === "" ? run.name : `${run.name} (in this report: step ${evaluated})`;
    legend.append(element("span", { className: `line-${run.index % 4}` }, name));
  }
  return element(
    "figure",
    { className: "card long" },
    element("h3", {}, key),
    element("div", { className: "pair" }, ...charts.filter((one) => one !== null)),
    legend,
  );
}

function chart(key, runs, column, unit, xName) {
  const known = (points) => points.filter((point) => point[column] !== null && point[2] !== null);
  const lines = runs.map((run) => ({
    ...run,
    rollouts: known(run.found.rollouts),
    dots: known(run.found.held_out),
  }));
  const points = lines.flatMap((line) => [...line.rollouts, ...line.dots]);
  if (points.length === 0) return null;
  const xs = points.map((point) => point[column] / unit);
  const ys = points.flatMap((point) => point.slice(2).filter((value) => value !== null));
  const xEnds = [Math.min(...xs, 0), Math.max(...xs) * 1.02 || 1];
  const label = `${key} against ${xName}`;
  const { svg, x, y } = frame(label, WIDE, HIGH, xEnds, range(ys), xName, shorten(key));
  for (const line of lines) {
    const mark = `line-${line.index % 4}`;
    const path = line.rollouts.map((point) => `${x(point[column] / unit).toFixed(1)} ${y(point[2]).toFixed(1)}`);
    if (path.length > 0) svg.append(drawn("path", { class: `curve ${mark}`, d: `M${path.join("L")}` }));
    for (const dot of line.dots) {
      const at = x(dot[column] / unit).toFixed(1);
      if (dot[3] !== null) {
        svg.append(drawn("path", { class: `interval ${mark}`, d: `M${at} ${y(dot[3])}V${y(dot[4])}` }));
      }
      svg.append(drawn("circle", { class: mark, cx: at, cy: y(dot[2]), r: 3.5 }));
    }
  }
  const places = lines.flatMap((line) => {
    return [...line.rollouts, ...line.dots].map((point) => {
      return { px: x(point[column] / unit), py: y(point[2]), point, name: line.name };
    });
  });
  follow(svg, places, ({ point, name }) => {
    const kind = point.length > 3 ? `held out [${number(point[3])}, ${number(point[4])}]` : "training images";
    return `${name}, step ${tickText(point[0])}\n${number(point[2])}, ${kind}`;
  });
  return svg;
}

function drawCurves() {
  const keys = [...new Set(report.curves.flatMap((curve) => Object.keys(curve.rewards)))];
  if (keys.length === 0) return;
  byId("training").hidden = byId("training-link").hidden = false;
  byId("curves").append(...keys.map(curveCard));
}
