"""Every family trains through the real command line, by every algorithm that it can be trained by."""

import pytest

from dgpo.algorithms.algorithm import ALGORITHMS
from dgpo.compare_runs import compare_runs
from dgpo.models.families import FAMILIES
from tests.cli.toys import SETTINGS, dgpo, metrics, prepare, train
from tests.dgpo.models.test_conformance import TEXT_LENGTH
from tests.dgpo.models.tiny_folders import save_tiny

SIZES = {"SanaPipeline": (64, 64)}


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """A recipe for a tiny model of a family, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def begin(name, **changes):
        save_tiny(name, tmp_path / "model")
        height, width = SIZES.get(name, (32, 64))
        sampling = {**SETTINGS["sampling"], "sampler": "euler", "height": height, "width": width}
        sampling["text_length"] = TEXT_LENGTH.get(name, 24)
        optimizer = {"learning_rate": 0.01, "epsilon": 1e-3}
        prepare(tmp_path, "./model", {"sampling": sampling, "group_size": 3, "optimizer": optimizer, **changes})
        return tmp_path

    return begin


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_it_goes_on_bit_for_bit_and_two_processes_are_one(begin, name, program):
    folder = begin(name, dgpo={"times": 2, "min_sigma": 0.1})
    train("one")
    train("again", "--steps", "1")
    train("again", "--steps", "2")
    assert [one for one in compare_runs(folder / "one", folder / "again") if one.step == 2] == []
    words = ("train", "--recipe", "recipe.yaml", "--reward", "bright.py:Bright", "--output", "two")
    done = program(*words, "--num-processes", "2")
    assert done.returncode == 0, done.stderr
    for one, two in zip(metrics(folder / "one"), metrics(folder / "two"), strict=True):
        assert two["reward"] == pytest.approx(one["reward"], rel=1e-5)
        assert two["passes"] == one["passes"]
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_by_every_algorithm(begin, name, algorithm):
    settings = {"dgpo": {"min_sigma": 0.1}, "nft": {}, "awm": {"strata": "all", "share": 1.0}, "diffusion_dpo": {}}
    section = algorithm.replace("-", "_")
    own = {section: {**settings.get(section, {}), "times": 2}} if section in settings else {}
    folder = begin(name, algorithm=algorithm, **own)
    if (name, algorithm) == ("SanaPipeline", "flow-grpo"):
        assert "where the first step of rollout.noise=sde would explode" in train("run", code=2)
        train("dry", "--dry-run", code=2)
        train("run", "--set", "rollout.noise=cps")
        return
    if (name, algorithm) == ("StableDiffusionXLPipeline", "flow-grpo"):
        assert "where rollouts with noise on the way" in train("run", code=2)
        return
    train("run")
    for line in metrics(folder / "run"):
        assert line["gradient_norm"] > 0
        assert line["passes"]["current"] > 0


@pytest.mark.parametrize("name", ["FluxPipeline", pytest.param("StableDiffusionXLPipeline", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_base_and_trained_are_evaluated_by_the_same_code(begin, name, method):
    """From the same noise; they differ by what was learned alone."""
    folder = begin(name, training={"method": method, "rank": 4, "alpha": 8, "dtype": "fp32"}, dgpo={"min_sigma": 0.1})
    train("run", "--set", "dgpo.times=2")
    words = ("--suite", "prompts.txt", "--reward", "bright.py:Bright", "--workers", "0")
    sampling = {"height": 32, "width": 64, "steps": 2, "guidance": 1.0, "text_length": 24, "sampler": "euler"}
    sets = [word for key, value in sampling.items() for word in ("--set", f"sampling.{key}={value}")]
    for output, model in (("base", "./model"), ("trained", "run")):
        dgpo("eval", *words, *sets, "--dtype", "fp32", "--model", model, "--output", output)
    assert (folder / "base/scores.csv").read_text() != (folder / "trained/scores.csv").read_text()
    said = dgpo("compare", "base", "trained")
    assert "bright" in said
