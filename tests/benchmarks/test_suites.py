"""What a suite is: distinct prompts, a fixed order, a hash that refuses anything else."""

import hashlib
import shutil
import subprocess
import sys

import pytest

from benchmarks.prompt_files import DRAWBENCH
from benchmarks.suite import Suite
from benchmarks.suites import draw_suite, list_suites, load_suite
from rewards.errors import SetupError, UsageError
from rewards.geneval import prompts
from rewards.prompt import Prompt


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """Nothing was ever fetched, and nothing can be."""
    monkeypatch.delenv("DGPO_DATA_DIR", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("name", "prompts", "sha256"),
    [
        ("drawbench", 200, "1ccb4f9e51c9fd05bca5b34d04f8aa0460919be1e4b2cc233bf1abcb4c2bb618"),
        ("ocr", 1018, "3191745107059dfee8a072f8685fcb109efd2158b0661a9d878f812f20c86c66"),
        ("pickscore", 2048, "0aeb1aeda421cd81fcf4b9f1cdf1ca830ab15b5ff42a3cd031da33ca5f13313f"),
    ],
)
def test_published_suites_have_their_count_and_hash(data_dir, name, prompts, sha256):
    suite = load_suite(name, data_dir=data_dir)
    assert len({prompt.id for prompt in suite.prompts}) == prompts
    assert suite.sha256 == sha256


def test_drawbench_is_not_its_file_of_copies(data_dir, monkeypatch):
    monkeypatch.setenv("DGPO_DATA_DIR", str(data_dir))
    suite = load_suite("drawbench")
    lines = (data_dir / "drawbench_test.txt").read_text().splitlines()
    assert len(lines) == 1000
    assert suite.prompts[0].text == lines[0]
    assert suite.default_rewards == ("aesthetic", "deqa", "imagereward", "pickscore", "unifiedreward")
    assert "1000 lines" in suite.notes[0]


def test_ocr_prompts_all_hold_a_quoted_text(data_dir):
    suite = load_suite("ocr", data_dir=data_dir)
    assert all(prompt.text.count('"') >= 2 for prompt in suite.prompts)


def test_the_source_path_is_found_too(data_dir, tmp_path):
    (tmp_path / "dataset/drawbench").mkdir(parents=True)
    shutil.copy(data_dir / "drawbench_test.txt", tmp_path / "dataset/drawbench/test.txt")
    assert len(load_suite("drawbench", data_dir=tmp_path).prompts) == 200


def test_a_changed_file_is_refused(data_dir, tmp_path):
    text = (data_dir / "drawbench_test.txt").read_bytes()
    (tmp_path / "drawbench_test.txt").write_bytes(text + b"\n")
    with pytest.raises(UsageError, match="is not the published file: its SHA-256") as error:
        load_suite("drawbench", data_dir=tmp_path)
    assert DRAWBENCH.sha256 is not None
    assert DRAWBENCH.sha256 in str(error.value)


def test_an_absent_file_says_where_it_comes_from_and_where_to_put_it(tmp_path, no_cache):
    with pytest.raises(SetupError, match=r"drawbench_test\.txt is not in the cache, and .*HF_HUB_OFFLINE") as error:
        load_suite("drawbench")
    assert DRAWBENCH.url in str(error.value)
    assert DRAWBENCH.sha256 is not None
    assert DRAWBENCH.sha256 in str(error.value)
    assert "--data or DGPO_DATA_DIR" in str(error.value)
    with pytest.raises(SetupError, match=f"in the cache nor in {tmp_path}"):
        load_suite("drawbench", data_dir=tmp_path)
    with pytest.raises(UsageError, match="There is no folder"):
        load_suite("drawbench", data_dir=tmp_path / "absent")


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(UsageError, match='Did you mean "drawbench"'):
        load_suite("drawbnch", builtin={"signs": lambda: Suite("signs", (Prompt("x"),), "")})
    with pytest.raises(UsageError, match="signs"):
        load_suite("sings", builtin={"signs": lambda: Suite("signs", (Prompt("x"),), "")})


def test_a_builtin_suite_is_made_on_demand():
    suite = Suite("signs", (Prompt("x"),), "words")
    assert load_suite("signs", builtin={"signs": lambda: suite}) is suite


def test_duplicates_in_a_file_are_merged_and_said(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("a dog\na cat\n\na dog\na dog\n")
    suite = load_suite(str(path))
    assert [prompt.text for prompt in suite.prompts] == ["a dog", "a cat"]
    assert suite.notes == (f"{path}: 2 repeated prompts were merged; 2 distinct prompts are left.",)
    assert suite.name == "mine"


def test_an_absent_or_empty_file_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.txt"):
        load_suite(str(tmp_path / "nowhere.txt"))
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UsageError, match=r"empty\.txt"):
        load_suite(str(tmp_path / "empty.txt"))


def test_geneval_is_drawn_and_not_downloaded(monkeypatch):
    monkeypatch.delenv("DGPO_DATA_DIR", raising=False)
    suite = load_suite("geneval")
    assert len({prompt.id for prompt in suite.prompts}) == 553
    assert suite.sha256 == "92d272b579e570a6e6e1d09027007d1e0dbcb58570e37128bbe44e341d296eb8"
    assert {frozenset(prompt.spec) for prompt in suite.prompts} == {
        frozenset({"tag", "include"}),
        frozenset({"tag", "include", "exclude"}),
    }
    (entry,) = [entry for entry in list_suites() if entry.name == "geneval"]
    assert (entry.prompts, entry.sha256, entry.missing) == (553, suite.sha256, "")


def test_other_draws_of_geneval_have_another_name_and_hash():
    suite = draw_suite("geneval", per_task=100)
    assert (suite.name, suite.sha256) == ("geneval", load_suite("geneval").sha256)
    other = draw_suite("geneval", seed=1, per_task=3)
    assert other.name == "geneval[seed=1,per_task=3]"
    assert len(other.prompts) == 80 + 5 * 3
    assert other.sha256 != suite.sha256
    with pytest.raises(UsageError, match='the prompts of "drawbench" are not drawn'):
        draw_suite("drawbench", seed=1)


def test_geneval_drawn_by_another_numpy_is_refused(monkeypatch):
    other = prompts.generate(seed=44)
    monkeypatch.setattr(prompts, "generate", lambda: other)
    prompts.official_prompts.cache_clear()
    with pytest.raises(SetupError, match=r"numpy .* draws other numbers"):
        load_suite("geneval")
    (entry,) = [entry for entry in list_suites() if entry.name == "geneval"]
    assert "numpy" in entry.missing
    assert entry.prompts == 553


def test_the_hash_is_of_the_sorted_lines():
    suite = Suite("s", (Prompt("b"), Prompt("a", {"count": 2})), "")
    assert suite.sha256 == hashlib.sha256(b'b\n{"count":2,"prompt":"a"}').hexdigest()
    assert Suite("s", suite.prompts[::-1], "").sha256 == suite.sha256


def test_a_suite_holds_each_prompt_once():
    with pytest.raises(ValueError, match="twice"):
        Suite("s", (Prompt("a"), Prompt("a")), "")
    with pytest.raises(ValueError, match="no prompts"):
        Suite("s", (), "")


def test_the_list_says_what_is_missing(data_dir, tmp_path, no_cache):
    (tmp_path / "drawbench_test.txt").write_bytes((data_dir / "drawbench_test.txt").read_bytes())
    (tmp_path / "ocr_test.txt").write_text("something else")
    entries = {entry.name: entry for entry in list_suites(data_dir=tmp_path)}
    assert entries["drawbench"].missing == ""
    assert (entries["drawbench"].prompts, entries["drawbench"].sha256[:8]) == (200, "1ccb4f9e")
    assert "is not the published file" in entries["ocr"].missing
    assert entries["pickscore"].missing.startswith("pickscore is not on this machine; its first use fetches https://")
    assert entries["pickscore"].url.endswith("/24af5554898d85e93efa492f42b5e9cdf4156e9b/dataset/pickscore/test.txt")


def test_importing_the_package_is_light():
    code = (
        "import sys, benchmarks, benchmarks.suite, benchmarks.harness.evaluate, benchmarks.reading.compare\n"
        "heavy = {'torch', 'pandas', 'onnxruntime', 'matplotlib', 'rapidocr'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
