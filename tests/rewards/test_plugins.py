"""Rewards from outside: a real installed package, broken neighbours, and classes in files."""

import csv
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from rewards.errors import SetupError, UsageError
from rewards.parse import anchor, parse_rewards, spec_from_json
from rewards.plugins import find_installed, fingerprint, load_class
from rewards.pool import ScoringPool
from rewards.prompt import Prompt
from rewards.registry import build, card_of, load, provenance_of
from rewards.spec import RewardSpec

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "1.2"
[project.entry-points."dgpo.rewards"]
{points}
[tool.setuptools]
py-modules = {modules}
"""
CARD = """
from rewards.card import Card, Option
CARD = Card(
    name="redness", version=2, unit="share", bounds=(0.0, 1.0), higher_is_better=True,
    summary="mean of the red channel", options=(Option("channel", "0", ("0", "1", "2"), "which"),),
    entry="redness_engine:Redness", reads_prompt=False,
)
"""
ENGINE = """
import numpy
from rewards.reward import Reward
from rewards.score import Score

class Redness(Reward):
    def score(self, images, prompts):
        channel = int(self.card.settle_options(self.spec.options)["channel"])
        return [Score(numpy.asarray(image.convert("RGB"))[..., channel].mean() / 255) for image in images]
"""
WIDTH = """
from dataclasses import dataclass
from rewards.card import Card, Option
from rewards.reward import Reward
from rewards.score import Score

@dataclass
class Ruler:  # dataclasses look their module up by its name
    side: int

class Width(Reward):
    card = Card(
        name="width", version=1, unit="pixels", bounds=(0, None), higher_is_better=True, summary="width",
        options=(Option("side", "0", ("0", "1"), "0 width, 1 height"),),
    )

    def score(self, images, prompts):
        ruler = Ruler(int(self.card.settle_options(self.spec.options)["side"]))
        return [Score(image.size[ruler.side]) for image in images]

class NoCard(Reward):
    pass

class Taken(Width):
    card = Card(name="ocr", version=1, unit="", bounds=(0, 1), higher_is_better=True, summary="")

class Spaced(Width):
    card = Card(name="my width", version=1, unit="", bounds=(0, 1), higher_is_better=True, summary="")

class Upward(Width):
    card = Card(name="narrow", version=1, unit="", bounds=(0, 1), higher_is_better=False, summary="")

class Needy(Width):
    card = Card(name="needy", version=1, unit="", bounds=(0, 1), higher_is_better=True, summary="")

    def __init__(self, spec, card):
        import a_library_that_nobody_has

class Bare:
    card = Card(name="bare", version=1, unit="", bounds=(0, 1), higher_is_better=True, summary="")
"""


def install(folder, target, name, points, **modules):
    """Make a package of these modules and install it with pip, as its users do."""
    folder.mkdir(parents=True)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    lines = "\n".join(f'"{point}" = "{value}"' for point, value in points.items())
    (folder / "pyproject.toml").write_text(PYPROJECT.format(name=name, points=lines, modules=list(modules)))
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*words, "--target", str(target), str(folder)], check=True, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder into which pip has installed one good plug-in and several that are not."""
    folder, site = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("site")
    install(folder / "a", site, "a-redness", {"redness": "redness_card:CARD"}, redness_card=CARD, redness_engine=ENGINE)
    taken = CARD.replace("redness_engine", "redness_card").replace("version=2", "version=9")
    install(
        folder / "b",
        site,
        "b-broken",
        {
            "absent": "broken_absent:CARD",
            "crash": "broken_crash:CARD",
            "number": "broken_number:CARD",
            "redness": "broken_twin:CARD",
            "ocr": "broken_ocr:CARD",
        },
        broken_absent="import a_library_that_nobody_has",
        broken_crash="CARD = {}['card']",
        broken_number="CARD = 3",
        broken_twin=taken,
        broken_ocr=taken.replace("redness", "ocr"),
    )
    return site


@pytest.fixture
def dgpo(site, tmp_path):
    def run(*words):
        variables = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "cli.main", *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (8, 4), (51, 102, 0)).save(path)
    return path


def test_installed_plugin_is_listed_beside_our_own_and_broken_ones_are_announced(dgpo):
    done = dgpo("rewards", "ls", "--json")
    assert done.returncode == 0, done.stderr
    entries = {entry["key"]: entry for entry in json.loads(done.stdout)}
    assert entries["redness@2"]["summary"] == "mean of the red channel"
    assert "ocr@1" in entries
    assert "redness@9" not in entries
    said = done.stderr
    assert 'The plug-in "absent" of b-broken 1.2 cannot be used' in said
    assert "a_library_that_nobody_has" in said
    assert "broken_crash:CARD does not import (KeyError" in said
    assert "broken_number:CARD is no rewards.card.Card but of type int" in said
    assert "its reward redness@9 has a name that is already taken by a-redness 1.2" in said
    assert "its reward ocr@9 has a name that is already taken by dgpo itself" in said


def test_listing_imports_neither_the_engine_nor_what_it_needs(site):
    code = "import sys, rewards.registry as r; r.cards(); r.find_card('redness'); print(*sys.modules)"
    variables = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "redness_card" in loaded
    assert not {"redness_engine", "numpy", "torch", "PIL"} & loaded


def test_installed_plugin_scores_in_a_worker_with_its_options(dgpo, picture, tmp_path):
    words = ["score", "--reward", "redness", "--reward", "redness[channel=1]", picture, "--output", "out.csv"]
    done = dgpo(*words, "--json")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out.csv").open(newline="") as file:
        scores = {row["reward"]: float(row["score"]) for row in csv.DictReader(file)}
    assert scores == {"redness@2": pytest.approx(0.2), "redness@2[channel=1]": pytest.approx(0.4)}
    facts = json.loads(done.stdout)["rewards"][0]["provenance"]
    assert facts == {
        "engine": "Redness",
        "engine_version": "a-redness 1.2",
        "weights": "none",
        "source": "a-redness 1.2",
    }


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("rednes", 2, 'Did you mean "redness"?'),
        ("redness@9", 2, "redness has no version 9"),
        ("absent", 3, 'The plug-in "absent" of b-broken 1.2 cannot be used'),
    ],
)
def test_plugins_are_known_to_suggestions_and_broken_ones_say_why(dgpo, name, code, said):
    done = dgpo("rewards", "show", name)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_class_of_a_plugin_that_does_not_load_is_a_sentence(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    (plugin,) = find_installed({"ocr"}).plugins
    assert load_class(plugin).__name__ == "Redness"
    for entry, said in [
        ("redness_engine:Rednes", "names the class redness_engine:Rednes, which does not exist"),
        ("nowhere:Redness", "does not load"),
        ("redness_card:Option", "has no method check, score, provenance; derive it"),
    ]:
        changed = type(plugin)(type(plugin.card)(**{**vars(plugin.card), "entry": entry}), plugin.package)
        with pytest.raises(SetupError, match=f"redness@2 of a-redness 1.2 .*{said}"):
            load_class(changed)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my=rewards" / "width.py"
    path.parent.mkdir()
    path.write_text(WIDTH)
    return path


def test_class_in_a_file_is_a_reward(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    specs = parse_rewards(["width.py:Width[side=1]=0.5", "ocr=0.5"], sets=["width.side=1"])
    assert specs[0] == RewardSpec("width", 1, (("side", "1"),), None, 0.5, f"{file}:Width")
    assert specs[0].key == "width@1[side=1]"
    assert card_of(specs[0]).entry == f"{file}:Width"
    (score,) = load(specs[0]).score([Image.new("RGB", (8, 4))], [Prompt("x")])
    assert score.value == 4


def test_spec_of_a_file_survives_pickle_and_json_and_another_working_directory(file, monkeypatch, tmp_path):
    (spec,) = parse_rewards([f"{file}:Width[side=1]"])
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert spec_from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert anchor(f"  {file.relative_to(tmp_path)}:Width[side=1]=0.5") == f"{file}:Width[side=1]=0.5"
    assert anchor("ocr[weights=v4]=0.5") == "ocr[weights=v4]=0.5"


def test_recorded_spec_whose_file_became_another_is_refused(file):
    (spec,) = parse_rewards([f"{file}:Width"])
    with pytest.raises(UsageError, match="is now width@1, and width@4 is asked for"):
        spec_from_json({**spec.to_json(), "version": 4})


def test_workers_import_the_file_themselves(file):
    images, prompts = [Image.new("RGB", (side, 4)) for side in (3, 5)], [Prompt("x")] * 2
    specs = parse_rewards([f"{file}:Width", "imagestats.dark"])
    with ScoringPool(specs, workers=1) as pool:
        scores = pool.submit(images, prompts).result().scores
    assert [score.value for score in scores["width@1"]] == [3, 5]


def test_record_names_file_and_content_wherever_it_lies(file, tmp_path):
    (spec,) = parse_rewards([f"{file}:Width"])
    facts = provenance_of(load(spec))
    assert facts["engine"] == "Width"
    assert facts["source"].startswith("width.py:Width sha256:")
    copy = tmp_path / "width.py"
    copy.write_text(WIDTH)
    assert fingerprint(f"{copy}:Width") == facts["source"]
    copy.write_text(WIDTH + "\n")
    assert fingerprint(f"{copy}:Width") != facts["source"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (":Widht", 'no class Widht. Did you mean "Width"'),
        (":NoCard", r"class NoCard in .* has no card. Write for instance:\n\n    from rewards.card import Card"),
        (":Taken", "calls itself ocr, which is the name of a registered reward"),
        (":Spaced", 'name "my width" of its card has other characters'),
        (":Upward", "train_scale of its card has to be negative"),
        (":Bare", "has no method check, score, provenance; derive it from rewards.reward.Reward"),
        (":Ruler", "class Ruler in .* has no card"),
        ("", "names a file and no class in it; write path/to/file.py:Class"),
        (":", "names a file and no class in it"),
        (":Width[side=3]", 'side of the reward width cannot be "3"'),
        (":Width=much", "weight behind = is a number"),
    ],
)
def test_wrong_class_is_a_sentence(file, name, said):
    with pytest.raises(UsageError, match=said):
        parse_rewards([f"{file}{name}"])


def test_wrong_file_is_a_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"absent.py: there is no such file. .* written path/to/file.py:Class"):
        parse_rewards([f"{tmp_path}/absent.py:Width"])
    (tmp_path / "typo.py").write_text("x = 1\nclass Width(:\n")
    with pytest.raises(UsageError, match=r"typo.py, line 2: this is not Python"):
        parse_rewards([f"{tmp_path}/typo.py:Width"])
    (tmp_path / "needy.py").write_text("import a_library_that_nobody_has")
    with pytest.raises(SetupError, match=r"needy.py needs a_library_that_nobody_has, which is not installed"):
        parse_rewards([f"{tmp_path}/needy.py:Width"])


def test_library_that_is_missing_when_it_is_built_is_a_sentence(file):
    with pytest.raises(SetupError, match="needy@1  -         The reward needy@1 needs a_library_that_nobody_has"):
        build(parse_rewards([f"{file}:Needy"]))


def test_two_files_of_one_name_do_not_mix(tmp_path):
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        text = WIDTH.replace('name="width"', f'name="width-{side}"').replace("image.size[ruler.side]", f"{ord(side)}")
        (tmp_path / side / "width.py").write_text(text)
    specs = parse_rewards([f"{tmp_path}/a/width.py:Width", f"{tmp_path}/b/width.py:Width"])
    values = [load(spec).score([Image.new("RGB", (2, 2))], [Prompt("x")])[0].value for spec in specs]
    assert values == [ord("a"), ord("b")]
    with pytest.raises(UsageError, match="width-a@1 is given twice"):
        parse_rewards([f"{tmp_path}/a/width.py:Width"] * 2)
