// One card a reward and run: each prompt as a dot (base across, run up), and how the differences are spread.
// A report of one run has the spread of its scores instead.

const SIDE = 260;
const LEFT = 44;
const BOTTOM = 34;
const TOP = 8;

function drawn(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Round numbers between two ends, about `count` of them.
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.8);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) found.push(at * step);
  return found;
}

function tickText(value) {
  return String(Number(value.toPrecision(4))).replace("-", "\u2212");
}

function range(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low === high) return [low - Math.max(1e-3, Math.abs(low) * 0.05), high + Math.max(1e-3, Math.abs(high) * 0.05)];
  return [low - (high - low) * 0.03, high + (high - low) * 0.03];
}

// Axes with names; x and y turn values into places of the drawing.
function frame(label, width, height, [xLow, xHigh], [yLow, yHigh], xName, yName) {
  const x = (value) => LEFT + ((value - xLow) / (xHigh - xLow)) * (width - LEFT - 8);
  const y = (value) => height - BOTTOM - ((value - yLow) / (yHigh - yLow)) * (height - BOTTOM - TOP);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label, class: "plot" });
  for (const at of ticks(xLow, xHigh, 4)) {
    svg.append(drawn("path", { class: "grid", d: `M${x(at)} ${TOP}V${height - BOTTOM}` }));
    svg.append(drawn("text", { x: x(at), y: height - BOTTOM + 13, "text-anchor": "middle" }, tickText(at)));
  }
  for (const at of ticks(yLow, yHigh, 4)) {
    svg.append(drawn("path", { class: "grid", d: `M${LEFT} ${y(at)}H${width - 8}` }));
    svg.append(drawn("text", { x: LEFT - 5, y: y(at) + 3.5, "text-anchor": "end" }, tickText(at)));
  }
  const middle = (TOP + height - BOTTOM) / 2;
  svg.append(
    drawn("text", { class: "name", x: (LEFT + width - 8) / 2, y: height - 4, "text-anchor": "middle" }, xName),
    drawn("text", { class: "name", transform: `translate(10 ${middle}) rotate(-90)`, "text-anchor": "middle" }, yName),
  );
  return { svg, x, y };
}

function shorten(text, most = 28) {
  return text.length > most ? `${text.slice(0, most - 1)}\u2026` : text;
}

function scatter(run, reward, pairs) {
  const { key } = report.rewards[reward];
  const names = [report.runs[0].name, report.runs[run].name];
  const ends = range(pairs.flatMap((pair) => [pair.base, pair.run]));
  const label = `${key}, one dot a prompt: ${names[0]} across, ${names[1]} up`;
  const { svg, x, y } = frame(label, SIDE, SIDE, ends, ends, shorten(names[0]), shorten(names[1]));
  svg.append(drawn("path", { class: "even", d: `M${x(ends[0])} ${y(ends[0])}L${x(ends[1])} ${y(ends[1])}` }));
  const dots = new Map();
  for (const pair of pairs) {
    const place = `${x(pair.base).toFixed(0)} ${y(pair.run).toFixed(0)}`;
    const dot = dots.get(place) || { place, count: 0, ...pair };
    dot.count += 1;
    dots.set(place, dot);
  }
  // Dots of one size and colour are one path: a thousand prompts stay a handful of elements.
  const paths = new Map();
  for (const { place, count, base, run: here } of dots.values()) {
    const size = Math.min(22, 4.5 + 2.2 * Math.sqrt(count - 1)).toFixed(1);
    const kind = `${size}/${judgement(reward, here - base)}`;
    paths.set(kind, (paths.get(kind) || "") + `M${place}h0`);
  }
  for (const [kind, d] of paths) {
    const [size, mark] = kind.split("/");
    svg.append(drawn("path", { class: `dots ${mark}`, d, "stroke-width": size }));
  }
  const places = pairs.map((pair) => ({ ...pair, px: x(pair.base), py: y(pair.run) }));
  follow(svg, places, (pair) => {
    const change = number(pair.run - pair.base, true);
    return `${report.prompts[pair.prompt]}\n${number(pair.base)} \u2192 ${number(pair.run)} (${change})`;
  });
  return svg;
}

// Names the dot under the pointer, and opens its images on a click.
function follow(svg, places, describe) {
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const unit = svg.viewBox.baseVal.width / box.width;
    const px = (event.clientX - box.left) * unit;
    const py = (event.clientY - box.top) * unit;
    let best = null;
    let distance = 144;
    for (const place of places) {
      const apart = (place.px - px) ** 2 + (place.py - py) ** 2;
      if (apart < distance) [best, distance] = [place, apart];
    }
    return best;
  };
  svg.addEventListener("pointermove", (event) => {
    const found = nearest(event);
    svg.classList.toggle("over", found !== null);
    if (found === null) hideTip();
    else showTip(describe(found), event);
  });
  svg.addEventListener("pointerleave", hideTip);
  svg.addEventListener("click", (event) => {
    const found = nearest(event);
    hideTip();
    if (found !== null && found.cell !== undefined) openCell(found.cell);
  });
}

function showTip(text, event) {
  const tip = byId("tip");
  tip.textContent = text;
  tip.hidden = false;
  const width = tip.offsetWidth;
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8)}px`;
}

function hideTip() {
  byId("tip").hidden = true;
}

function histogram(values, reward, label, xName, signed) {
  const [low, high] = range(signed ? [...values, 0] : values);
  const bins = 24;
  // With signs, a border between two bars lies at zero, so that no bar mixes gains and losses.
  const width = (high - low) / bins;
  const first = signed ? Math.floor(low / width) * width : low;
  const counts = new Array(bins + 2).fill(0);
  let same = 0;
  for (const value of values) {
    if (signed && Math.abs(value) < 1e-9) same += 1;
    else counts[Math.min(counts.length - 1, Math.floor((value - first) / width + (value < 0 ? -1e-9 : 1e-9)))] += 1;
  }
  const most = Math.max(1, same, ...counts);
  const last = first + counts.length * width;
  const { svg, x, y } = frame(label, SIDE, SIDE, [first, last], [0, most * 1.05], xName, "prompts");
  counts.forEach((count, index) => {
    if (count === 0) return;
    const from = first + index * width;
    const mark = signed ? judgement(reward, from + width / 2) : "";
    const size = Math.max(1, x(from + width) - x(from) - 1);
    const at = { x: x(from), y: y(count), width: size, height: y(0) - y(count) };
    svg.append(drawn("rect", { class: `bar ${mark}`, ...at }));
  });
  if (signed) svg.append(drawn("path", { class: "even", d: `M${x(0)} ${TOP}V${y(0)}` }));
  if (same > 0) {
    svg.append(drawn("rect", { class: "bar same", x: x(0) - 2, y: y(same), width: 4, height: y(0) - y(same) }));
  }
  return svg;
}

function pairCard(run, reward) {
  const { key, higher } = report.rewards[reward];
  const pairs = promptPairs(run, reward);
  if (pairs.length === 0) return null;
  const changes = pairs.map((pair) => pair.run - pair.base);
  const up = changes.filter((change) => change > 1e-9).length;
  const down = changes.filter((change) => change < -1e-9).length;
  const words = higher === null ? ["higher", "lower"] : higher ? ["better", "worse"] : ["worse", "better"];
  const name = report.runs[run].name;
  const same = pairs.length - up - down;
  const text = `${name}: ${words[0]} on ${up} prompts, ${words[1]} on ${down}, the same on ${same}.`;
  const spread = histogram(changes, reward, `${key}, spread of the differences. ${text}`, "difference", true);
  return element(
    "figure",
    { className: "card" },
    element("h3", {}, key),
    element("div", { className: "pair" }, scatter(run, reward, pairs), spread),
    element("figcaption", {}, text),
  );
}

function aloneCard(reward) {
  const values = promptPairs(0, reward).map((pair) => pair.run);
  if (values.length === 0) return null;
  const { key, unit } = report.rewards[reward];
  const label = `${key}: how the prompts' means are spread`;
  return element(
    "figure",
    { className: "card" },
    element("h3", {}, key),
    histogram(values, reward, label, shorten(unit, 36), false),
  );
}

function drawPlots() {
  const several = report.runs.length > 1;
  byId("prompts-hint").textContent = several
    ? `Each dot is a prompt, the mean over its seeds: ${report.runs[0].name} across, the other run up. ` +
      "Larger dots are several prompts. Blue is better, orange is worse; a click opens the images."
    : "How the means of the prompts are spread.";
  report.rewards.forEach((_, reward) => {
    if (several) report.runs.slice(1).forEach((_, index) => byId("plots").append(pairCard(index + 1, reward) || ""));
    else byId("plots").append(aloneCard(reward) || "");
  });
}
