// Theme, keyboard, and the order in which the page comes to life.

function startTheme() {
  const button = byId("theme");
  const wanted = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try {
    chosen = localStorage.getItem("dgpo-theme");
  } catch {
    // Some browsers refuse a page from disk any storage; then the system's theme is the start each time.
  }
  const show = () => {
    const dark = chosen === null ? wanted.matches : chosen === "dark";
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(dark));
  };
  button.addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("dgpo-theme", chosen);
    } catch {
      // As above.
    }
    show();
  });
  wanted.addEventListener("change", show);
  show();
}

function startKeys() {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const open = byId("cell").open;
    const typing = event.target.closest("input, select, textarea") !== null;
    if (typing) {
      if (event.key === "Escape" || (event.key === "Enter" && event.target === byId("search"))) {
        // Some browsers would empty the field on Escape.
        event.preventDefault();
        event.target.blur();
        byId("list").focus({ preventScroll: true });
      }
      return;
    }
    if (pressed(event, open)) event.preventDefault();
  });
}

// True where the key meant something here.
function pressed({ key, target }, open) {
  const move = open ? turn : step;
  const inList = target === byId("list") || byId("list").contains(target);
  if (key === "j") move(1);
  else if (key === "k") move(-1);
  else if (open && (key === "ArrowRight" || key === "ArrowLeft")) turn(key === "ArrowRight" ? 1 : -1);
  else if (!open && inList && (key === "ArrowDown" || key === "ArrowUp")) step(key === "ArrowDown" ? 1 : -1);
  else if (!open && key === "/") focusSearch();
  else if (!open && key === "Enter" && target.closest("a, button, summary") === null && view.current >= 0) {
    openCell(view.cells[view.current]);
  } else return false;
  return true;
}

function focusSearch() {
  byId("search").focus();
  byId("search").select();
}

startTheme();
startDialog();
startViewer();
startKeys();
requestAnimationFrame(() => {
  drawPlots();
  drawCurves();
  document.documentElement.dataset.ready = "true";
});
