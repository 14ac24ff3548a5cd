// One cell in full: every run's image from its file, and every score with what the reward saw or why it failed.

let openedCell = -1;

function openCell(cell) {
  openedCell = cell;
  const prompt = report.prompt[cell];
  const place = view.cells.indexOf(cell);
  const category = report.categories[report.category[prompt]];
  const facts = [`seed ${report.seed[cell]}`];
  if (category !== undefined) facts.push(category);
  if (place >= 0) facts.push(`${place + 1} of ${view.cells.length}`);
  byId("cell-title").textContent = report.prompts[prompt];
  byId("cell-place").textContent = facts.join(" \u00b7 ");
  byId("previous").disabled = place <= 0;
  byId("next").disabled = place < 0 || place === view.cells.length - 1;
  byId("cell-images").replaceChildren(...report.runs.map((_, run) => largeImage(run, cell)));
  byId("cell-scores").replaceChildren(...scoreTable(cell));
  if (!byId("cell").open) byId("cell").showModal();
}

function largeImage(run, cell) {
  const name = report.runs[run].name;
  const problem = imageProblem(run, cell);
  const caption = element("figcaption", {}, name);
  if (problem !== "") caption.append(element("small", { className: "failed" }, ` ${problem}`));
  const address = fullImage(run, cell);
  if (address === "") return element("figure", {}, element("span", { className: "absent" }, problem), caption);
  const image = element("img", { alt: `${name}: ${report.prompts[report.prompt[cell]]}` });
  image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth < 256));
  image.addEventListener("error", () => useThumbnail(image, run, cell, caption), { once: true });
  image.src = address;
  const link = element("a", { href: address, target: "_blank", rel: "noopener", title: "the file" }, image);
  return element("figure", {}, link, caption);
}

function useThumbnail(image, run, cell, caption) {
  const inside = thumbnail(run, cell);
  const what = inside === "" ? "" : "; this is the small copy";
  caption.append(element("small", { className: "failed" }, ` its file is not beside this page${what}`));
  if (inside === "") image.remove();
  else image.src = inside;
}

function scoreTable(cell) {
  const head = element("tr", {}, element("th", { scope: "col" }, "reward"));
  head.append(...report.runs.map(({ name }) => element("th", { scope: "col" }, name)));
  const rows = report.rewards.map(({ key, unit, summary }, reward) => {
    const name = element("th", { scope: "row", title: summary }, key, element("small", {}, unit));
    return element("tr", {}, name, ...report.runs.map((_, run) => scoreCell(run, reward, cell)));
  });
  return [element("thead", {}, head), element("tbody", {}, ...rows)];
}

function scoreCell(run, reward, cell) {
  const lacking = state(run, reward, cell);
  const made = element("td", {}, element("b", {}, lacking || number(score(run, reward, cell))));
  made.dataset.label = report.runs[run].name;
  if (lacking !== "") made.classList.add("failed");
  const change = run > 0 ? difference(run, reward, cell) : null;
  if (change !== null) {
    made.append(" ", element("span", { className: `change ${judgement(reward, change)}` }, number(change, true)));
  }
  const seen = detail(run, reward, cell);
  if (seen !== "") made.append(element("small", { className: "reason" }, seen));
  return made;
}

function turn(by) {
  const place = view.cells.indexOf(openedCell) + by;
  if (view.cells.indexOf(openedCell) < 0 || place < 0 || place >= view.cells.length) return;
  step(place - view.current);
  openCell(view.cells[place]);
}

function startDialog() {
  const dialog = byId("cell");
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));
  byId("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("close", () => view.rows.get(view.current)?.querySelector("button")?.focus());
}
