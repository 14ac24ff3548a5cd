// All images by prompt and seed, a column a run. Only the rows near the window exist, so that ten thousand scroll as
// easily as ten; every row is equally high, so that a row's place follows from its number.

const MARGIN_ROWS = 3;
const view = { cells: [], current: -1, rows: new Map(), rowHeight: 200, descending: true };
const searchable = report.prompts.map((text) => text.toLowerCase());
const several = report.runs.length > 1;

function fillTools() {
  const options = (select, pairs) => {
    select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
  };
  options(byId("reward"), report.rewards.map(({ key }, index) => [index, key]));
  const sorts = [["order", "suite order"]];
  report.rewards.forEach(({ key }, reward) => {
    for (let run = 1; run < report.runs.length; run++) {
      const name = report.runs.length > 2 ? `${key}, ${report.runs[run].name}` : key;
      sorts.push([`delta/${run}/${reward}`, `change in ${name}`]);
    }
  });
  report.rewards.forEach(({ key }, reward) => {
    report.runs.forEach(({ name }, run) => {
      if (report.runs[run].scores[reward] !== null) sorts.push([`score/${run}/${reward}`, `${key} of ${name}`]);
    });
  });
  options(byId("sort"), sorts);
  const states = [["all", "everything"], ["failed", "without a score"]];
  if (several) states.push(["good", "better in shown score"], ["poor", "worse in shown score"]);
  if (several) states.push(["changed", "changed in shown score"]);
  options(byId("state"), states);
  options(byId("category"), [["", "all"], ...report.categories.map((name, index) => [index, name])]);
  byId("category-label").hidden = report.categories.length === 0;
  const seeds = [...new Set(report.seed)].sort((a, b) => a - b);
  options(byId("seed"), [["", "all"], ...seeds.map((seed) => [seed, seed])]);
  byId("seed-label").hidden = seeds.length < 2;
}

function failed(cell) {
  return report.runs.some((_, run) => report.rewards.some((_, reward) => state(run, reward, cell) !== ""));
}

// The cells that the tools ask for, in their order; cells without the number sorted by come last.
function choose() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const matches = searchable.map((text) => words.every((word) => text.includes(word)));
  const category = byId("category").value;
  const seed = byId("seed").value;
  const wanted = byId("state").value;
  const reward = shownReward();
  const changes = (cell) => report.runs.slice(1).map((_, index) => difference(index + 1, reward, cell));
  const tests = {
    all: () => true,
    failed,
    good: (cell) => changes(cell).some((change) => judgement(reward, change) === "good"),
    poor: (cell) => changes(cell).some((change) => judgement(reward, change) === "poor"),
    changed: (cell) => changes(cell).some((change) => change !== null && Math.abs(change) > 1e-9),
  };
  const found = [];
  for (let cell = 0; cell < cellCount; cell++) {
    const prompt = report.prompt[cell];
    if (!matches[prompt]) continue;
    if (category !== "" && report.category[prompt] !== Number(category)) continue;
    if (seed !== "" && report.seed[cell] !== Number(seed)) continue;
    if (tests[wanted](cell)) found.push(cell);
  }
  return sorted(found, byId("sort").value);
}

function sorted(cells, wanted) {
  const [kind, run, by] = wanted.split("/");
  if (kind === "order") return view.descending ? cells : cells.reverse();
  const read = kind === "delta" ? difference : score;
  const values = new Map(cells.map((cell) => [cell, read(Number(run), Number(by), cell)]));
  const sign = view.descending ? -1 : 1;
  return cells.sort((one, other) => {
    const [a, b] = [values.get(one), values.get(other)];
    if (a === null || b === null) return (a === null) - (b === null) || one - other;
    return sign * (a - b) || one - other;
  });
}

function shownReward() {
  return Number(byId("reward").value);
}

function update() {
  view.cells = choose();
  view.current = -1;
  for (const row of view.rows.values()) row.remove();
  view.rows.clear();
  const prompts = new Set(view.cells.map((cell) => report.prompt[cell])).size;
  byId("count").textContent =
    view.cells.length === 0 ? "nothing matches" : `${view.cells.length} rows of ${prompts} prompts`;
  const byOrder = byId("sort").value === "order";
  const names = byOrder ? ["First to last", "Last to first"] : ["Highest first", "Lowest first"];
  byId("direction").textContent = names[view.descending ? 0 : 1];
  layOut();
}

// Sizes of tiles and rows for this width of the window.
function layOut() {
  const list = byId("list");
  const width = list.clientWidth;
  const phone = width < 620;
  const runs = report.runs.length;
  const gap = 10;
  const room = phone ? width - 16 : width - 270 - 16;
  const widest = Math.min(320, Math.max(160, 220 / report.thumbnails.ratio));
  const tile = Math.floor(Math.max(phone ? 130 : 110, Math.min(widest, (room - gap * (runs - 1)) / runs)));
  const height = Math.round(Math.max(56, Math.min(300, tile * report.thumbnails.ratio)));
  view.rowHeight = (phone ? 66 : 0) + Math.max(height + 48, phone ? 0 : 116) + 22;
  document.documentElement.classList.toggle("phone", phone);
  list.style.setProperty("--tile", `${tile}px`);
  list.style.setProperty("--tile-height", `${height}px`);
  list.style.setProperty("--row", `${view.rowHeight}px`);
  byId("columns").style.setProperty("--tile", `${tile}px`);
  list.style.height = `${view.cells.length * view.rowHeight}px`;
  for (const [index, row] of view.rows) row.style.top = `${index * view.rowHeight}px`;
  showRows();
}

function showRows() {
  const list = byId("list");
  const top = -list.getBoundingClientRect().top;
  const first = Math.max(0, Math.floor(top / view.rowHeight) - MARGIN_ROWS);
  const last = Math.min(view.cells.length - 1, Math.ceil((top + innerHeight) / view.rowHeight) + MARGIN_ROWS);
  for (const [index, row] of view.rows) {
    if (index < first || index > last) {
      row.remove();
      view.rows.delete(index);
    }
  }
  for (let index = first; index <= last; index++) {
    if (view.rows.has(index)) continue;
    const row = makeRow(index);
    const next = [...view.rows.keys()].filter((other) => other > index).sort((a, b) => a - b)[0];
    list.insertBefore(row, next === undefined ? null : view.rows.get(next));
    view.rows.set(index, row);
  }
}

function makeRow(index) {
  const cell = view.cells[index];
  const prompt = report.prompt[cell];
  const category = report.categories[report.category[prompt]];
  const facts = [`seed ${report.seed[cell]}`, `prompt ${prompt + 1}`];
  if (category !== undefined) facts.push(category);
  const row = element(
    "div",
    { className: "row", role: "listitem", "aria-setsize": view.cells.length, "aria-posinset": index + 1 },
    element(
      "div",
      { className: "words" },
      element("p", { className: "text", title: report.prompts[prompt] }, report.prompts[prompt]),
      element("p", { className: "facts" }, facts.join(" \u00b7 ")),
    ),
    element("div", { className: "tiles" }, ...report.runs.map((_, run) => makeTile(run, cell, index))),
  );
  row.style.top = `${index * view.rowHeight}px`;
  if (index === view.current) row.setAttribute("aria-current", "true");
  return row;
}

function makeTile(run, cell, index) {
  const reward = shownReward();
  const value = score(run, reward, cell);
  const change = run > 0 ? difference(run, reward, cell) : null;
  const lacking = state(run, reward, cell);
  const name = report.runs[run].name;
  const label = `${name}, ${report.rewards[reward].key} ${lacking || number(value)}: open`;
  const line = element("p", { className: "value" }, element("b", {}, lacking === "" ? number(value) : `${lacking}`));
  if (lacking !== "") line.classList.add("failed");
  if (change !== null) {
    line.append(" ", element("span", { className: `change ${judgement(reward, change)}` }, number(change, true)));
  }
  const button = element("button", { type: "button", className: "picture", "aria-label": label });
  button.append(picture(run, cell));
  button.addEventListener("click", () => {
    setCurrent(index);
    openCell(cell);
  });
  const seen = detail(run, reward, cell);
  return element(
    "div",
    { className: "tile" },
    button,
    line,
    element("p", { className: "detail", title: seen }, seen.replace(/\s+/g, " ")),
  );
}

// The small picture inside the page, or else the file beside it.
function picture(run, cell) {
  const inside = thumbnail(run, cell);
  const problem = imageProblem(run, cell);
  if (inside === "" && problem !== "") return element("span", { className: "absent" }, problem);
  const image = element("img", { alt: "", decoding: "async", loading: inside === "" ? "lazy" : "eager" });
  // Images that are small themselves keep their pixels; shrunk copies of large ones look better smoothed.
  image.classList.toggle("pixels", report.thumbnails.widest < 128);
  image.addEventListener("error", () => {
    image.replaceWith(element("span", { className: "absent" }, "its file is not beside this page"));
  });
  image.src = inside || fullImage(run, cell);
  return image;
}

function setCurrent(index) {
  view.rows.get(view.current)?.removeAttribute("aria-current");
  view.current = index;
  view.rows.get(index)?.setAttribute("aria-current", "true");
}

// Move by rows, and bring the row into the window.
function step(by) {
  if (view.cells.length === 0) return;
  const index = Math.max(0, Math.min(view.cells.length - 1, view.current < 0 && by > 0 ? firstShown() : view.current + by));
  setCurrent(index);
  const top = byId("list").getBoundingClientRect().top + index * view.rowHeight;
  const cover = byId("columns").getBoundingClientRect().height + 8;
  if (top < cover) scrollBy(0, top - cover);
  else if (top + view.rowHeight > innerHeight) scrollBy(0, top + view.rowHeight - innerHeight + 8);
  showRows();
  setCurrent(index);
}

function firstShown() {
  return Math.max(0, Math.ceil(-byId("list").getBoundingClientRect().top / view.rowHeight));
}

function startViewer() {
  const names = report.runs.map(({ name }) => element("span", { title: name }, name));
  byId("columns").append(element("span", { className: "space" }), ...names);
  const shared = report.noise ? "same prompt and same starting noise" : "same prompt";
  byId("images-hint").textContent =
    (several ? `Each row: ${shared}, a column a run. ` : "") + "Click a picture for its full size and all scores.";
  byId("image-notes").append(...report.thumbnails.notes.map((note) => element("p", { className: "hint" }, note)));
  fillTools();
  for (const id of ["reward", "sort", "category", "seed", "state"]) {
    byId(id).addEventListener("change", () => {
      if (id === "sort") followSort();
      update();
    });
  }
  let waiting = 0;
  byId("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 120);
  });
  byId("direction").addEventListener("click", () => {
    view.descending = !view.descending;
    update();
  });
  byId("tools").addEventListener("submit", (event) => event.preventDefault());
  let asked = false;
  addEventListener("scroll", () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      showRows();
    });
  }, { passive: true });
  new ResizeObserver(layOut).observe(document.body);
  update();
}

// Whoever sorts by a reward wants to see that reward.
function followSort() {
  const [kind, , reward] = byId("sort").value.split("/");
  if (kind !== "order") byId("reward").value = reward;
}
