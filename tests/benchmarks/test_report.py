"""The page as a file: its size, its data, its small pictures, and texts that try to get out of it."""

import base64
import io
import json
import os
import re
from typing import Any

import pytest
from PIL import Image

from benchmarks.harness.store import load_scores
from benchmarks.reading.compare import compare
from benchmarks.reading.contact_sheet import before_after
from benchmarks.reading.stats import FEW_SENTENCE, estimate
from benchmarks.report import SENTENCES_BYTES, write_report
from benchmarks.report.categories import categories_of
from benchmarks.report.curves import read_curves, thin
from benchmarks.report.document import to_json
from benchmarks.report.tables import comparison_table, decimals, number
from benchmarks.report.thumbnails import LADDER, Job, plan, shrink, shrink_all
from benchmarks.suites import draw_suite
from rewards.errors import UsageError
from rewards.prompt import Prompt
from tests.benchmarks.pages import NASTY, make_pictures, make_suite, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two runs of 8 prompts x 3 seeds, `run` with higher scores on every second prompt."""
    folder = tmp_path_factory.mktemp("runs")
    suite, pictures = make_suite(8), make_pictures(folder / "pictures", 12)
    write_run(folder / "base", suite, 3, pictures, name="base")
    write_run(folder / "run", suite, 3, pictures[1:], name="run", shift=0.1)
    return folder


@pytest.fixture(scope="module")
def page(folder):
    path = folder / "out" / "report.html"
    write_report([folder / "base", folder / "run"], path)
    return path.read_text(encoding="utf-8")


def part_of(page: str, pattern: str) -> str:
    found = re.search(pattern, page, re.DOTALL)
    assert found is not None, pattern
    return found[1]


def data_of(page):
    return json.loads(part_of(page, r'<script type="application/json" id="data">(.*?)</script>'))


def thumbnails_of(page):
    """The small pictures, as the page's script finds them: by (run, cell)."""
    text = part_of(page, r'<script type="text/plain" id="thumbnails">(.*?)</script>')
    places = data_of(page)["thumbnails"]["places"]
    found, start = {}, 0
    for run, cell, length in zip(*(places[offset::3] for offset in range(3)), strict=True):
        found[run, cell] = base64.b64decode(text[start : start + length], validate=True)
        start += length
    assert start == len(text)
    return found


def test_nothing_is_asked_from_a_network(page):
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", page)
    policy = part_of(page, r'Content-Security-Policy" content="([^"]*)"')
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy


def test_texts_cannot_leave_their_place(page):
    assert page.count("</script>") == 3, "thumbnails, data and script; none from a prompt"
    assert "<b>bold" not in page
    assert "the judge <was>" not in page
    assert data_of(page)["prompts"][0] == NASTY


def test_json_in_a_script_element_is_safe_and_strict():
    text = to_json({"prompt": "</script><!-- \u2028 \N{PARROT}"}).decode()
    assert "<" not in text
    assert json.loads(text) == {"prompt": "</script><!-- \u2028 \N{PARROT}"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(float("nan"))


def test_data_are_the_scores_of_both_folders(page, folder):
    data = data_of(page)
    keys = [(data["ids"][prompt], seed) for prompt, seed in zip(data["prompt"], data["seed"], strict=True)]
    assert len(set(keys)) == len(keys) == 24
    assert data["seed"][:4] == [0, 1, 2, 0], "by prompt, then by seed"
    for run, name in zip(data["runs"], ("base", "run"), strict=True):
        table = load_scores(folder / name)
        for number_, reward in enumerate(data["rewards"]):
            rows = table[table.reward == reward["key"]].set_index(["prompt_id", "seed"])
            for place, key in enumerate(keys):
                row, score = rows.loc[key], run["scores"][number_][place]
                assert score is None if row.status == "failed" else score == pytest.approx(row.score, rel=1e-5)
                assert data["texts"][run["details"][number_][place]] == row.detail
            assert [keys[int(place)][1] for place in run["states"][number_]] == [0], "prompt 2, seed 0 failed"
    assert [one["higher"] for one in data["rewards"]] == [True, None]


def test_summary_says_what_the_statistics_say(page, folder):
    table = load_scores(folder / "run")
    scored = table[(table.reward == "taste@1") & (table.status == "ok")]
    found = estimate(scored.score, list(scored.prompt_id))
    places = decimals(found.ci_high - found.ci_low)
    assert f"<b>{number(found.mean, '', places)}</b>" in page
    assert f"[{number(found.ci_low, '', places)}, {number(found.ci_high, '', places)}]" in page
    assert "1 failed" in page
    assert comparison_table(compare([folder / "base", folder / "run"])) in page


def test_few_prompts_are_told_beside_each_interval(page):
    """Of two rewards two runs and their difference, all over 8 prompts; and once above the means what that means."""
    assert page.count('<small class="few">8 prompts</small>') == 6
    assert f"95 % interval. {FEW_SENTENCE}</p>" in page


def test_each_cell_has_its_own_thumbnail(page, folder):
    data, found = data_of(page), thumbnails_of(page)
    assert set(found) == {(run, cell) for run in (0, 1) for cell in range(24)}
    folders = [folder / "base", folder / "run"]
    for (run, cell), content in found.items():
        table = load_scores(folders[run]).set_index(["prompt_id", "seed"])
        row = table.loc[(data["ids"][data["prompt"][cell]], data["seed"][cell])].iloc[0]
        with Image.open(folders[run] / row.image) as full, Image.open(io.BytesIO(content)) as small:
            assert small.size == full.size, "a small image is not enlarged"
            assert mean_difference(small, full) < 12


def test_links_lead_from_the_page_to_the_files(page, folder):
    data = data_of(page)
    for run in data["runs"]:
        for link in run["links"]:
            assert (folder / "out" / link).is_file()


def test_images_at_their_usual_place_are_not_listed_one_by_one(tmp_path, write_results):
    path = write_results("alone", {"taste@1": {(0, 0): 0.5, (1, 0): None}})
    written = write_report([path], tmp_path / "a b" / "page.html")
    run = data_of(written.path.read_text(encoding="utf-8"))["runs"][0]
    assert (run["links"], run["folder"]) == (None, "../alone/images/")
    assert written.notes == ("2 image files are gone, damaged or not the ones that were scored.",)


def test_one_folder_is_shown_alone(folder, tmp_path):
    written = write_report([folder / "base"], tmp_path / "one.html")
    page = written.path.read_text(encoding="utf-8")
    assert len(data_of(page)["runs"]) == 1
    assert "p (Holm)" not in page
    assert written.size == len(page.encode())


def test_folders_that_do_not_compare_are_refused_and_nothing_is_left(folder, tmp_path):
    other = write_run(tmp_path / "other", make_suite(5), 1, make_pictures(tmp_path / "p", 2), name="other")
    with pytest.raises(UsageError, match="answer other prompts"):
        write_report([folder / "base", other], tmp_path / "page.html")
    assert not list(tmp_path.glob("page*"))


def jobs(tmp_path, cells, seeds):
    pictures = make_pictures(tmp_path / "pictures", 6, side=400)
    return [
        Job(0, cell * seeds + seed, seed, *pictures[(cell + seed) % 6])
        for cell in range(cells)
        for seed in range(seeds)
    ]


def test_thumbnails_are_as_large_as_the_budget_allows(tmp_path):
    asked = jobs(tmp_path, 10, 3)
    sides = []
    for budget in (3_000_000, 120_000, 60_000):
        planned = plan(asked, budget)
        made = list(shrink_all(planned))
        assert len(made) == 30
        assert planned.left_out == ()
        assert sum(len(thumbnail.text) for _, thumbnail in made) <= budget
        sides.append(planned.side)
    assert sides[0] == LADDER[0][0]
    assert sides == sorted(set(sides), reverse=True)


def test_later_seeds_go_without_where_even_the_smallest_do_not_fit(tmp_path):
    asked = jobs(tmp_path, 10, 3)
    smallest = sum(len(shrink(job, *LADDER[-1]).text) for job in asked)
    planned = plan(asked, smallest // 2)
    assert (planned.side, planned.quality) == LADDER[-1]
    assert planned.left_out == (1, 2)
    assert {job.seed for job in planned.jobs} == {0}
    assert len(planned.jobs) == 10
    few = plan(asked, smallest // 6)
    assert few.left_out == (0, 1, 2)
    assert 0 < len(few.jobs) < 10
    assert plan(asked, -5).jobs == ()


def test_a_page_stays_within_its_size_and_says_what_it_left_out(folder, tmp_path, page):
    rest = len(page.encode()) - sum(data_of(page)["thumbnails"]["places"][2::3])
    most = rest + SENTENCES_BYTES + 24 * 2 * 16 + 16_000
    written = write_report([folder / "base", folder / "run"], tmp_path / "small.html", most_bytes=most)
    assert written.size <= most
    assert 0 < written.thumbnails < 48
    assert "have no small copy" in written.notes[0]
    assert data_of(written.path.read_text(encoding="utf-8"))["thumbnails"]["notes"] == list(written.notes)


def test_files_that_are_gone_damaged_or_changed_are_told(tmp_path):
    (path, sha), *_ = make_pictures(tmp_path, 1)
    assert shrink(Job(0, 0, 0, path, sha), 64, 50).problem == ""
    assert "has changed since" in shrink(Job(0, 0, 0, path, "1" * 64), 64, 50).problem
    path.write_bytes(path.read_bytes()[:200])
    broken = shrink(Job(0, 0, 0, path, ""), 64, 50)
    assert (broken.text, broken.problem[:20]) == (b"", "the image is damaged")
    assert "not there any more" in shrink(Job(0, 0, 0, tmp_path / "none.png", ""), 64, 50).problem


def test_a_page_is_built_whatever_became_of_the_images(tmp_path):
    suite, pictures = make_suite(5), make_pictures(tmp_path / "sound", 5)
    odd = make_pictures(tmp_path / "odd", 5)
    write_run(tmp_path / "base", suite, 1, pictures, name="base")
    write_run(tmp_path / "run", suite, 1, odd, name="run")
    for path, _ in odd:
        path.unlink()
    os.mkfifo(odd[0][0])
    odd[1][0].symlink_to("/dev/zero")
    with odd[2][0].open("wb") as file:
        file.truncate(20 * 2**30)
    odd[3][0].write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    odd[4][0].mkdir()
    written = write_report([tmp_path / "base", tmp_path / "run"], tmp_path / "page.html")
    page = written.path.read_text(encoding="utf-8")
    assert set(thumbnails_of(page)) == {(0, cell) for cell in range(5)}
    problems = {run for run, _, _ in data_of(page)["thumbnails"]["problems"]}
    assert problems == {1}
    assert before_after([tmp_path / "base", tmp_path / "run"], tmp_path / "sheet.png").is_file()


METRICS = (
    {"step": 0, "evaluation": {"ocr@1": {"mean": 0.5, "ci_low": 0.4, "ci_high": 0.6, "failed": 0}}},
    {"step": 1, "reward": 0.6, "rewards": {"ocr@1": 0.6}, "seconds": {"draw": 1.0, "score": 2.0, "learn": 3.0}},
    {"step": 2, "reward": 0.7, "rewards": {"ocr@1": 0.7}, "seconds": {"draw": 1.0, "score": 1.0, "learn": 1.0}},
    {"step": 2, "evaluation": {"ocr@1": {"mean": 0.8, "ci_low": 0.7, "ci_high": 0.9, "failed": 0}, "note": "x"}},
)


def test_curves_count_the_seconds_up_to_each_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(map(json.dumps, METRICS)) + '\n{"step": 3, "rew')
    assert read_curves(path) == {
        "ocr@1": {
            "rollouts": [[1, 6.0, 0.6], [2, 9.0, 0.7]],
            "held_out": [[0, 0.0, 0.5, 0.4, 0.6], [2, 9.0, 0.8, 0.7, 0.9]],
        }
    }


def test_a_damaged_line_costs_a_curve_no_other(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(map(json.dumps, METRICS)))
    whole = read_curves(path)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b"\xff", b"[" * 100_000, b"", *lines[1:]]))
    assert read_curves(path) == whole


def test_long_curves_are_thinned_without_losing_their_mean():
    points = [[step, float(step), step % 2] for step in range(1, 5001)]
    thinned: Any = thin(points)
    assert len(thinned) <= 600
    assert sum(point[2] for point in thinned) / len(thinned) == pytest.approx(0.5, abs=0.02)


def test_curves_come_from_the_run_folder_or_are_missed(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/metrics.jsonl").write_text("\n".join(map(json.dumps, METRICS)))
    suite, pictures = make_suite(4), make_pictures(tmp_path / "p", 4)
    model = {"base": "tiny", "run": str(tmp_path / "train"), "step": 2}
    there = write_run(tmp_path / "there", suite, 1, pictures, name="train@2", model=model)
    gone = write_run(tmp_path / "gone", suite, 1, pictures, name="x@9", model={**model, "run": "/no/such", "step": 9})
    page = write_report([there, gone], tmp_path / "page.html").path.read_text(encoding="utf-8")
    (curve,) = data_of(page)["curves"]
    assert (curve["name"], curve["evaluated"]) == ("train", [[2, "train@2"]])
    assert "x@9: the run folder /no/such is not at hand" in page


def test_categories_are_those_of_the_suite():
    suite = draw_suite("geneval")
    found = categories_of(suite.prompts)
    assert len(found) == 553
    assert found[suite.prompts[0].id] == suite.prompts[0].spec["tag"]
    assert categories_of([Prompt("a cat", {"category": "animals"}), Prompt("a car")]) == {
        Prompt("a cat", {"category": "animals"}).id: "animals"
    }


def mean_difference(one, other):
    pairs = zip(one.convert("RGB").tobytes(), other.convert("RGB").tobytes(), strict=True)
    differences = [abs(a - b) for a, b in pairs]
    return sum(differences) / len(differences)
