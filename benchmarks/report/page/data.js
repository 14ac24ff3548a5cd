// The data of the page, and how its numbers are written. All text is put into the page as text, never as HTML.

const report = JSON.parse(document.getElementById("data").textContent);
const cellCount = report.prompt.length;
const NONE = "\u2013";

function byId(id) {
  return document.getElementById(id);
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key in made && key !== "role") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function number(value, signed) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  const text = value.toFixed(Math.abs(value) >= 100 ? 1 : 3);
  if (Number(text) === 0) return text.replace("-", "");
  return (signed && value > 0 ? "+" : "") + text.replace("-", "\u2212");
}

function score(run, reward, cell) {
  const column = report.runs[run].scores[reward];
  return column === null ? null : column[cell];
}

function detail(run, reward, cell) {
  const column = report.runs[run].details[reward];
  return column === null ? "" : report.texts[column[cell]];
}

// "failed" or "missing" where a reward gave no score, otherwise "".
function state(run, reward, cell) {
  return report.runs[run].states[reward][cell] || "";
}

function difference(run, reward, cell) {
  const here = score(run, reward, cell);
  const there = score(0, reward, cell);
  return here === null || there === null ? null : here - there;
}

// "good" or "poor" for a change, "" for none and for rewards that only describe.
function judgement(reward, change) {
  const higher = report.rewards[reward].higher;
  if (change === null || change === 0 || higher === null) return "";
  return change > 0 === higher ? "good" : "poor";
}

// Mean over the seeds of each prompt: [{prompt, cell, base, run}] for prompts scored in both runs.
function promptPairs(run, reward) {
  const sums = new Map();
  for (let cell = 0; cell < cellCount; cell++) {
    const here = score(run, reward, cell);
    const there = score(0, reward, cell);
    if (here === null || there === null) continue;
    const prompt = report.prompt[cell];
    const sum = sums.get(prompt) || { prompt, cell, base: 0, run: 0, count: 0 };
    sum.base += there;
    sum.run += here;
    sum.count += 1;
    sums.set(prompt, sum);
  }
  return [...sums.values()].map(({ prompt, cell, base, run: here, count }) => {
    return { prompt, cell, base: base / count, run: here / count };
  });
}

function fullImage(run, cell) {
  const { folder, links } = report.runs[run];
  const link = links === null ? null : links[cell];
  return link === null ? `${folder}${report.ids[report.prompt[cell]]}_${report.seed[cell]}.png` : link;
}

// Where each thumbnail's text begins and ends in the page; sliced out only when a picture is shown.
const thumbnailPlaces = report.runs.map(() => new Map());
let thumbnailText = null;
for (let index = 0, start = 0; index < report.thumbnails.places.length; index += 3) {
  const [run, cell, length] = report.thumbnails.places.slice(index, index + 3);
  thumbnailPlaces[run].set(cell, [start, start + length]);
  start += length;
}

function thumbnail(run, cell) {
  const place = thumbnailPlaces[run].get(cell);
  if (place === undefined) return "";
  if (thumbnailText === null) thumbnailText = byId("thumbnails").textContent;
  return `data:${report.thumbnails.kind};base64,${thumbnailText.slice(...place)}`;
}

const imageProblems = new Map(report.thumbnails.problems.map(([run, cell, text]) => [`${run}/${cell}`, text]));

function imageProblem(run, cell) {
  return imageProblems.get(`${run}/${cell}`) || (fullImage(run, cell) === "" ? "there is no image" : "");
}
