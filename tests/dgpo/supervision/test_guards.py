"""Guards: what they mean, what they refuse, and when they end a run."""

import pytest

from dgpo.checkpoint import checkpoints
from dgpo.supervision.guards import Guard, baseless, check_names, parse_guard, tripped, unmeasured
from rewards.errors import UsageError
from tests.dgpo.training import digest, small_config, train

KEYS = ["ocr@1", "ocr@1[weights=v4]", "aesthetic@1"]
FIGURES = ("dark", "diversity")


@pytest.mark.parametrize(
    ("text", "guard"),
    [
        ("aesthetic<-0.1", Guard("aesthetic", True, -0.1)),
        (" dark > 2e-1 ", Guard("dark", False, 0.2)),
        ("ocr@1[weights=v4]<-0.5", Guard("ocr@1[weights=v4]", True, -0.5)),
    ],
)
def test_what_a_text_means(text, guard):
    assert parse_guard(text) == guard
    assert parse_guard(str(guard)) == guard


@pytest.mark.parametrize("text", ["aesthetic", "aesthetic<", "<1", "aesthetic<=-1", "a<b<-1", "a<nan", "a<-inf", "a<x"])
def test_what_means_nothing(text):
    with pytest.raises(UsageError, match="is no guard"):
        parse_guard(text)


@pytest.mark.parametrize("text", ["aesthetic<5", "dark>-0.1"])
def test_what_is_so_from_the_start(text):
    with pytest.raises(UsageError, match="already so at step 0"):
        parse_guard(text)


def test_names():
    check_names([parse_guard("aesthetic<-1"), parse_guard("ocr@1<-1"), parse_guard("dark>1")], KEYS, FIGURES)
    with pytest.raises(UsageError, match='Did you mean "aesthetic"'):
        check_names([parse_guard("aestetic<-1")], KEYS, FIGURES)
    with pytest.raises(UsageError, match=r"ocr@1 or ocr@1\[weights=v4\]"):
        check_names([parse_guard("ocr<-1")], KEYS, FIGURES)


def line(step, aesthetic, dark=0.5):
    return {"step": step, "evaluation": {"aesthetic@1": {"mean": aesthetic}}, "pictures": {"dark": dark}}


def test_the_change_since_step_0_decides():
    guards = [parse_guard("aesthetic<-0.1"), parse_guard("dark>0.25")]
    lines = [line(0, 5.0), {"step": 1, "reward": 9.0}, line(1, 4.5), line(2, 4.95, 0.75), {"step": 3, "reward": 9.0}]
    assert tripped(guards, lines) == []  # the latest fell by 0.05, and 0.25 is not more than 0.25
    assert tripped(guards, lines[:3]) == [
        'The guard "aesthetic<-0.1" ended the run: aesthetic went from 5 at step 0 to 4.5 at step 1, a change of -0.5.'
    ]
    assert len(tripped(guards, [*lines, line(4, 4.0, 0.76)])) == 2


def test_what_was_not_measured_trips_nothing_and_is_known():
    guards = [parse_guard("aesthetic<-0.1")]
    lines = [line(0, 5.0), line(1, None)]
    assert (tripped(guards, lines), unmeasured(guards, lines), baseless(guards, lines)) == ([], guards, [])
    late = [line(5, 5.0), line(6, 4.0)]
    assert (tripped(guards, late), unmeasured(guards, late), baseless(guards, late)) == ([], [], guards)


def falls_at_2(step, policy):
    return {"aesthetic@1": {"mean": 5.0 if step < 2 else 4.0, "ci_low": None, "ci_high": None}}


CHANGES = {"steps": 3, "evaluation.every": 1, "evaluation.suite": "signs"}


def test_a_run_ends_saved_and_goes_on_without_the_guard(model_folder, tmp_path):
    config = small_config(model_folder, CHANGES | {"evaluation.stop_when": ["aesthetic<-0.1"]})
    for _ in range(2):  # given again, the same command ends the same
        outcome = train(config, tmp_path / "run", evaluate=falls_at_2).outcome
        assert outcome.kind == "guarded"
        assert "from 5 at step 0 to 4 at step 2" in outcome.sentence
        assert [path.name for path in checkpoints(tmp_path / "run/checkpoints")] == ["step-000002"]
    train(small_config(model_folder, CHANGES), tmp_path / "run", evaluate=falls_at_2)
    train(small_config(model_folder, CHANGES), tmp_path / "free", evaluate=falls_at_2)
    assert digest(tmp_path / "run", 3) == digest(tmp_path / "free", 3)


def test_figures_of_pictures_are_recorded_and_guarded(model_folder, tmp_path):
    config = small_config(model_folder, CHANGES | {"evaluation.stop_when": ["dark>0.5"]})

    def figures(step):
        return {"dark": float(step), "diversity": None}

    outcome = train(config, tmp_path, evaluate=falls_at_2, picture=figures).outcome
    assert "dark went from 0 at step 0 to 1 at step 1" in outcome.sentence


def test_a_guard_on_what_the_start_did_not_measure_is_refused(model_folder, tmp_path):
    train(small_config(model_folder, {"steps": 1}), tmp_path)
    config = small_config(model_folder, CHANGES | {"steps": 2, "evaluation.stop_when": ["aesthetic<-0.1"]})
    with pytest.raises(UsageError, match="when this run did not measure it"):
        train(config, tmp_path, evaluate=falls_at_2)
