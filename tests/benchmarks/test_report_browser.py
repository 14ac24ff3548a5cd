"""The page in a real browser: what a reader sees, types and clicks, from a file, without a network."""

import shutil
import time
from contextlib import contextmanager

import pytest

from benchmarks.report import write_report
from tests.benchmarks.pages import NASTY, make_pictures, make_suite, write_run

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PROMPTS, SEEDS = 40, 2


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here, so no browser can be driven")
    if not CHROMIUM:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    suite, pictures = make_suite(PROMPTS), make_pictures(folder / "pictures", 12)
    path = folder / "suite.jsonl"
    path.write_text("\n".join(prompt.canonical for prompt in suite.prompts), encoding="utf-8")
    suite = type(suite)(suite.name, suite.prompts, str(path))
    write_run(folder / "base", suite, SEEDS, pictures, name="base <1>")
    write_run(folder / "run", suite, SEEDS, pictures[1:], name="run & more", shift=0.1)
    return write_report([folder / "base", folder / "run"], folder / "report.html").path


@contextmanager
def opened(browser, path, **options):
    """A page from disk; a script error, a broken policy or any request but to a file fails the test."""
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
    page = context.new_page()
    faults, asked = [], []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]")
    page.evaluate("document.querySelector('#images').scrollIntoView()")
    page.wait_for_selector("#list .row")
    yield page
    assert faults == []
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    context.close()


@pytest.fixture
def page(browser, report):
    with opened(browser, report) as page:
        yield page


def wait_until(page, condition, patience_s=10):
    """Playwright's own way evaluates text inside the page, which the page's policy forbids."""
    ends = time.monotonic() + patience_s
    while not page.evaluate(condition):
        assert time.monotonic() < ends, condition
        page.wait_for_timeout(50)


def rows(page):
    return page.locator("#list .row")


def titles(page, count=3):
    return page.eval_on_selector_all("#list .row .text", "found => found.map(one => one.textContent)")[:count]


def changes(page):
    texts = page.eval_on_selector_all("#list .row .change", "found => found.map(one => one.textContent)")
    return [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]


def test_a_prompt_that_is_a_script_is_text(page):
    assert page.title() == "base <1> and run & more on many"
    assert titles(page, 1) == [NASTY]
    page.locator(".picture").first.click()
    assert page.locator("#cell-title").text_content() == NASTY
    assert page.locator("#cell-title b").count() == 0


def test_plots_of_every_reward(page):
    assert page.locator("#plots .card").count() == 2
    assert page.locator("#plots svg.plot").count() == 4
    assert "better on" in page.locator("#plots figcaption").first.text_content()
    assert "higher on" in page.locator("#plots figcaption").nth(1).text_content()


def test_sorting_puts_the_largest_change_first_and_then_the_smallest(page):
    page.select_option("#sort", label="change in taste@1")
    falling = changes(page)
    assert falling == sorted(falling, reverse=True)
    assert falling[0] == pytest.approx(0.6)
    page.click("#direction")
    rising = changes(page)
    assert rising == sorted(rising)
    assert rising[0] == 0


def test_search_category_seed_and_failures(page):
    page.fill("#search", 'SIGN "7"')
    wait_until(page, "document.querySelector('#count').textContent.startsWith('2 rows of 1')")
    page.fill("#search", "nothing like it")
    wait_until(page, "document.querySelector('#count').textContent === 'nothing matches'")
    page.fill("#search", "")
    wait_until(page, "document.querySelector('#count').textContent.startsWith('80 rows of 40')")
    page.select_option("#category", label="dog")
    assert page.locator("#count").text_content() == "26 rows of 13 prompts"
    page.select_option("#seed", "1")
    assert page.locator("#count").text_content() == "13 rows of 13 prompts"
    page.select_option("#category", label="all")
    page.select_option("#seed", label="all")
    page.select_option("#state", "failed")
    assert page.locator("#count").text_content() == "1 rows of 1 prompts"
    assert page.locator(".value.failed").first.text_content() == "failed"
    assert page.locator(".detail").first.text_content() == "the judge <was> asleep"


def test_a_click_opens_the_full_images_with_every_score_and_reason(page):
    page.select_option("#state", "failed")
    page.locator(".picture").first.click()
    dialog = page.locator("#cell")
    assert dialog.is_visible()
    assert dialog.locator("#cell-scores tbody tr").count() == 2
    assert "the judge <was> asleep" in dialog.locator("#cell-scores").text_content()
    wait_until(page, "[...document.querySelectorAll('#cell-images img')].every(one => one.naturalWidth === 64)")
    assert all(
        source.startswith("file:")
        for source in page.eval_on_selector_all("#cell-images img", "found => found.map(one => one.src)")
    )


def test_keyboard_alone(page):
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("beside")
    page.keyboard.press("Escape")
    wait_until(page, "document.querySelector('#count').textContent.startsWith('78 rows')")
    for key in ("j", "j", "k", "ArrowDown"):
        page.keyboard.press(key)
    assert page.get_attribute("#list .row[aria-current]", "aria-posinset") == "2"
    page.keyboard.press("Enter")
    assert "2 of 78" in page.locator("#cell-place").text_content()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("j")
    assert "4 of 78" in page.locator("#cell-place").text_content()
    page.keyboard.press("ArrowLeft")
    assert "3 of 78" in page.locator("#cell-place").text_content()
    page.keyboard.press("Escape")
    assert not page.locator("#cell").is_visible()
    wait_until(page, "document.activeElement.className === 'picture'")  # where one was before; told in a later task


def test_themes_follow_the_system_and_the_button_with_contrast(browser, report):
    for scheme, other in (("dark", "light"), ("light", "dark")):
        with opened(browser, report, color_scheme=scheme) as page:
            assert page.get_attribute("html", "data-theme") == scheme
            for theme in (scheme, other):
                assert page.get_attribute("html", "data-theme") == theme
                for name in ("ink", "pale", "accent", "good", "poor"):
                    assert contrast(page, name, "paper") >= 4.5, (theme, name)
                page.click("#theme")


def contrast(page, ink, paper):
    """WCAG 2 contrast of two of the page's colours."""
    lights = []
    for name in (ink, paper):
        value = page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}')").strip()
        channels = [int(value[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def test_every_control_has_a_name(page):
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, select, input, svg[role=img], [role=list], dialog")]
        .filter(one => !one.closest("label") && !one.textContent.trim() && !one.ariaLabel
          && !one.getAttribute("aria-labelledby") && !one.getAttribute("aria-label"))
        .map(one => one.outerHTML.slice(0, 80))"""
    )
    assert nameless == []


def test_a_phone_does_not_scroll_sideways(browser, report):
    phone = {"width": 390, "height": 844}
    with opened(browser, report, viewport=phone, has_touch=True, device_scale_factor=2) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.locator(".picture").first.click()
        assert page.evaluate(
            "document.querySelector('#cell').scrollWidth <= document.querySelector('#cell').clientWidth"
        )


def test_full_images_that_were_not_copied_along_are_replaced_by_the_small_ones(browser, report, tmp_path):
    alone = tmp_path / "elsewhere" / "report.html"
    alone.parent.mkdir()
    shutil.copy(report, alone)
    context = browser.new_context()
    page = context.new_page()
    page.goto(alone.as_uri() + "#images")
    page.locator(".picture").first.click()
    page.wait_for_selector("#cell-images small")
    assert "this is the small copy" in page.locator("#cell-images").text_content()
    wait_until(page, "[...document.querySelectorAll('#cell-images img')].every(one => one.naturalWidth > 0)")
    context.close()


@pytest.mark.slow
def test_ten_thousand_images_do_not_freeze_the_page(browser, tmp_path):
    """1,000 prompts x 5 seeds x 2 runs; the bounds are loose, for a busy machine."""
    suite, pictures = make_suite(1000), make_pictures(tmp_path / "pictures", 40, side=128)
    write_run(tmp_path / "base", suite, 5, pictures, name="base")
    write_run(tmp_path / "run", suite, 5, pictures[1:], name="run", shift=0.1)
    written = write_report([tmp_path / "base", tmp_path / "run"], tmp_path / "report.html")
    assert written.size <= 30_000_000
    assert written.thumbnails == 10_000
    began = time.perf_counter()
    with opened(browser, written.path) as page:
        assert time.perf_counter() - began < 15
        sort = """() => {
            const began = performance.now();
            const select = document.querySelector("#sort");
            select.value = "delta/1/0";
            select.dispatchEvent(new Event("change"));
            return performance.now() - began;
        }"""
        assert page.evaluate(sort) < 1000
        for place in (0.25, 0.5, 0.99):
            page.evaluate(f"scrollTo(0, document.body.scrollHeight * {place})")
            page.wait_for_timeout(100)
            assert 0 < rows(page).count() < 40
