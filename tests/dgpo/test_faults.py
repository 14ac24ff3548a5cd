"""What a user sees when a reward fails in a training, and that the same command goes on once it is mended.

The reward is a file of one's own, whose faults are switched on by a word in a file beside it.
"""

import io
import json
import re
import socket
from pathlib import Path

import pytest
from PIL import Image

from dgpo.checkpoint import checkpoints, step_of
from dgpo.config import Config
from dgpo.reward_choice import choose_rewards
from rewards.errors import SetupError
from rewards.parse import parse_rewards
from rewards.pool import ScoringPool
from tests.dgpo.training import digest, small_config, train
from tests.rewards.served import serving, wait_for

FAULTY = """
import os
import time
from pathlib import Path
import numpy
from rewards.card import Card
from rewards.errors import ScoringError, SetupError
from rewards.reward import Reward
from rewards.score import Score

class Faulty(Reward):
    card = Card(name="faulty", version=1, unit="grey level", bounds=(0, 9), higher_is_better=True, summary="for tests")
    asked = 0

    def score(self, images, prompts):
        switch = Path(__file__).with_name("fault.txt")
        fault = switch.read_text() if switch.exists() else ""
        if fault == "dead":
            raise ConnectionError("connection refused")
        if fault == "exits":
            raise SystemExit(0)
        if fault == "nothing":
            return None
        if fault == "dies":
            os._exit(0)
        if fault == "hangs":
            time.sleep(1e6)
        if fault == "replaced":
            raise SetupError("The server serves other weights now. Start it as it was.")
        if fault == "unparsable":
            raise ScoringError("no 'Final Score' in the reply: I like it very much.")
        if fault == "reversed":
            prompts = prompts[::-1]
        values = [float(numpy.asarray(image).mean()) / 255 + len(p.text) / 99 for image, p in zip(images, prompts)]
        if fault == "sorted":
            values.sort()
        changed = {"nan": float("nan"), "constant": 0.5, "best": 9.0}
        scores = [Score(changed.get(fault, value * 1.1 if fault == "other weights" else value)) for value in values]
        if fault == "timeouts":
            start, self.asked = self.asked, self.asked + len(images)
            lost = [place for place in range(len(images)) if (start + place) % 10 == 9]
            scores = [Score.failed("no answer in 120 s") if i in lost else one for i, one in enumerate(scores)]
        return scores
"""
STEPS = 4
DEAD_LINE = 1 + FAULTY[: FAULTY.index("raise ConnectionError")].count("\n")


class Bench:
    """A run by a reward that can be broken and mended."""

    def __init__(self, model: Path, folder: Path):
        self.model, self.folder, self.run = model, folder, folder / "run"
        self.file, self.switch = folder / "faulty.py", folder / "fault.txt"
        self.file.write_text(FAULTY)
        self.notes: list[str] = []

    def config(self, **changes) -> Config:
        """A step a checkpoint, canaries met at each; dots in names are two underscores."""
        settings = {
            "rewards": [f"{self.file}:Faulty"],
            "steps": STEPS,
            "group_size": 2,
            "sampling.steps": 2,
            "dgpo.times": 1,
            "dgpo.min_sigma": 0.0,
            "checkpoint.every": 0,
            "watch.canaries": 4,
            "watch.canary_every": 0,
            **{name.replace("__", "."): value for name, value in changes.items()},
        }
        return small_config(self.model, settings)

    def note(self, sentence: str) -> None:
        """But for what every training says as it begins."""
        if not sentence.startswith(("precision: ", "training in ", "continuing in ")):
            self.notes.append(sentence)

    def break_it(self, fault: str) -> None:
        self.switch.write_text(fault)

    def mend(self) -> None:
        self.switch.unlink()

    def train(
        self,
        after: int | None = None,
        fault: str = "",
        pool=ScoringPool,
        facts=None,
        workers=0,
        deadline_s=60.0,
        **changes,
    ):
        """The command, given (again); the fault comes after that iteration."""

        def on_step(metrics):
            if metrics["step"] == after:
                self.break_it(fault)

        config = self.config(**changes)
        with pool(choose_rewards(config).trained, workers=workers, deadline_s=deadline_s) as open_pool:
            parts = {"pool": open_pool, "on_step": on_step, "on_note": self.note}
            return train(config, self.run, facts=facts, **parts)

    def stops(self, *args, **changes) -> str:
        """The message with which the command ends."""
        with pytest.raises(SetupError) as caught:
            self.train(*args, **changes)
        assert caught.value.exit_code == 3
        return str(caught.value)

    def lines(self) -> list[dict]:
        """The metrics; strict JSON."""
        text = (self.run / "metrics.jsonl").read_text()
        return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]

    def checkpoints(self) -> list[int]:
        return sorted(map(step_of, checkpoints(self.run / "checkpoints")))


@pytest.fixture
def bench(model_folder, tmp_path):
    return Bench(model_folder, tmp_path)


@pytest.fixture(scope="module")
def peace(model_folder, tmp_path_factory):
    """The weights of a run that nothing disturbed."""
    bench = Bench(model_folder, tmp_path_factory.mktemp("peace"))
    bench.train()
    assert bench.notes == []
    return digest(bench.run, STEPS)


FATAL = {
    "dead": f"faulty@1: ConnectionError: connection refused (faulty.py, line {DEAD_LINE})",
    "nan": "faulty@1: the reward returned nan, which is not a finite number",
    "unparsable": "faulty@1: ScoringError: no 'Final Score' in the reply: I like it very much.",
}


class TestEveryImageFails:
    @pytest.mark.parametrize(("fault", "reason"), FATAL.items(), ids=FATAL)
    def test_stops_saved_and_the_same_command_goes_on(self, bench, peace, fault, reason):
        told = bench.stops(after=2, fault=fault)
        assert told == (
            f"4 of 4 images could not be scored in iteration 3, and max_failed is 0. The first reason: {reason}. "
            "The run is saved; mend the cause (or allow more with --max-failed) and give the same command to go on."
        )
        assert bench.checkpoints() == [2]
        refused = bench.stops()
        assert "faulty@1 could score none of 4 pictures" in refused
        assert reason.partition(": ")[2] in refused
        bench.mend()
        bench.train()
        assert digest(bench.run, STEPS) == peace
        assert [line["step"] for line in bench.lines()] == [1, 2, 3, 4]

    @pytest.mark.parametrize("every", [0, 1], ids=["while drawing", "before a checkpoint"])
    def test_for_good_by_its_own_word(self, bench, peace, every):
        """A reward that says so itself ends the run without a look at max_failed; what was learned before is saved."""
        told = bench.stops(after=2, fault="replaced", max_failed=4, watch__canary_every=every)
        assert told == (
            "Iteration 3: The server serves other weights now. Start it as it was. The run is saved; mend the cause "
            "and give the same command to go on."
        )
        assert bench.checkpoints() == [2]
        assert bench.stops() == "The server serves other weights now. Start it as it was."
        bench.mend()
        bench.train()
        assert digest(bench.run, STEPS) == peace

    def test_before_anything_is_drawn_refuses_to_start(self, bench, peace):
        bench.break_it("dead")
        assert "could score none of 4 pictures that it was shown before anything is drawn" in bench.stops()
        assert not (bench.run / "samples").exists()
        bench.mend()
        bench.train()
        assert digest(bench.run, STEPS) == peace

    def test_that_is_allowed_is_written_down_as_null(self, bench):
        bench.train(after=2, fault="nan", max_failed=4)
        rewards = [line["reward"] for line in bench.lines()]
        assert [reward is None for reward in rewards] == [False, False, True, True]
        assert [line["failed"] for line in bench.lines()] == [0, 0, 4, 4]
        assert (bench.run / "curve.png").stat().st_size > 0
        assert bench.notes[0].startswith(
            "iteration 3: 4 images of 4 could not be scored: faulty@1: the reward returned"
        )
        assert "faulty@1 could not score canary 1" in bench.notes[-1]


ALL_FAILED = "4 of 4 images could not be scored in iteration 3, and max_failed is 0. The first reason: faulty@1: "
MISBEHAVING = {
    "exits": "Iteration 3: The reward faulty@1 broke off: it called sys.exit(0) (faulty.py, line ",
    "nothing": "Iteration 3: The reward faulty@1 returned None (NoneType) for ",
    "dies": f"{ALL_FAILED}the scoring process died ",
    "hangs": f"{ALL_FAILED}no scores within 5 s (reward_seconds)",
}


class TestMisbehaves:
    @pytest.mark.parametrize(("fault", "beginning"), MISBEHAVING.items(), ids=MISBEHAVING)
    def test_stops_saved_and_the_same_command_goes_on(self, bench, peace, fault, beginning):
        told = bench.stops(after=2, fault=fault, workers=1, deadline_s=5.0)
        assert told.startswith(beginning)
        assert "The run is saved; mend the cause" in told
        assert bench.checkpoints() == [2]
        bench.mend()
        bench.train()
        assert digest(bench.run, STEPS) == peace


class TestSomeImagesFail:
    def test_ten_per_cent_of_timeouts_are_masked_counted_and_said(self, bench):
        """The 10th, 20th and 30th: a canary at the start and one at the end, which is no drift, and one image."""
        bench.break_it("timeouts")
        bench.train(max_failed=1)
        assert [line["failed"] for line in bench.lines()] == [0, 1, 0, 0]
        assert all(line["reward"] is not None for line in bench.lines())
        assert [note for note in bench.notes if "could not be scored: faulty@1: no answer in 120 s" in note]

    def test_and_stop_a_run_that_allows_none(self, bench, peace):
        bench.break_it("timeouts")
        assert "1 of 4 images could not be scored in iteration 2" in bench.stops()
        bench.mend()
        bench.train()
        assert digest(bench.run, STEPS) == peace

    def test_a_corrupted_image_is_named(self, bench, peace):
        class Corrupting(ScoringPool):
            """Cuts the first image of the third iteration off; four batches of canaries and two of images precede."""

            asked = 0

            def submit(self, images, prompts):
                self.asked += len(images)
                if self.asked == 12 + 3 * 4:
                    file = io.BytesIO()
                    images[0].save(file, "PNG")
                    images = [Image.open(io.BytesIO(file.getvalue()[:-60])), *images[1:]]
                return super().submit(images, prompts)

        told = bench.stops(pool=Corrupting)
        assert "1 of 4 images could not be scored in iteration 3" in told
        assert "faulty@1: the image cannot be decoded: " in told
        bench.train()
        assert digest(bench.run, STEPS) == peace


class TestConstant:
    def test_from_the_start_stops_the_run(self, bench, peace):
        bench.break_it("constant")
        told = bench.stops(watch__constant_after=2)
        assert told.startswith(
            "Iteration 2: faulty@1 gave each of the 8 images of the last 2 iterations the same score, 0.5: nothing "
        )
        assert "--set watch.constant=warn" in told
        assert [note.partition(":")[0] for note in bench.notes] == ["iteration 1"]
        bench.mend()
        bench.train()  # mended it gives the canaries other scores, and that is no drift
        assert bench.lines()[-1]["spread"] > 0

    def test_later_on_is_drift_before_it_is_constant(self, bench, peace):
        told = bench.stops(after=2, fault="constant", watch__canary_every=1)
        assert "faulty@1 no longer scores as it did at the start of this run: canary 1" in told
        bench.mend()
        bench.train()
        assert digest(bench.run, STEPS) == peace

    def test_at_its_best_is_saturated_and_no_reason_to_stop(self, bench):
        bench.break_it("best")
        bench.train(watch__constant_after=2)
        assert [note.partition(":")[0] for note in bench.notes] == ["iteration 1", "iteration 2", "iteration 4"]
        assert all("saturated at its bound" in note for note in bench.notes)


class TestMixedUp:
    @pytest.mark.parametrize("fault", ["reversed", "sorted"])
    def test_prompts_or_scores_out_of_order_are_refused_at_the_start(self, bench, peace, fault):
        bench.break_it(fault)
        told = bench.stops()
        assert told.startswith("faulty@1 scores canary ")
        assert "it mixes up images or prompts" in told
        assert not (bench.run / "samples").exists()
        bench.mend()
        bench.train()
        assert digest(bench.run, STEPS) == peace

    def test_later_on_are_drift(self, bench, peace):
        assert "no longer scores as it did" in bench.stops(after=1, fault="reversed", checkpoint__every=1)
        bench.mend()
        bench.train()
        assert digest(bench.run, STEPS) == peace


class TestDrift:
    def test_nothing_learned_from_changed_scores_is_kept(self, bench, peace):
        """The fourth iteration learned from them; the checkpoint of the second is the one that is gone on from."""
        told = bench.stops(after=3, fault="other weights", checkpoint__every=2)
        first = json.loads((bench.run / "canaries" / "canaries.json").read_text())["scores"]["faulty@1"][0]
        assert f"canary 1 ({bench.run}/canaries/1.png, " in told
        assert f"had {first:.6g} and has {1.1 * first:.6g} now (and 3 more" in told
        assert "restarted with other weights" in told
        assert "What was learned after iteration 2, when they last agreed" in told
        assert bench.checkpoints() == [2]
        refused = bench.stops()
        assert "Nothing was drawn or learned." in refused
        bench.mend()
        bench.train()
        assert digest(bench.run, STEPS) == peace

    def test_says_what_the_reward_recorded_then_and_now(self, bench):
        bench.train(steps=1)
        bench.break_it("other weights")
        bench.file.write_text(bench.file.read_text() + "# edited\n")
        told = bench.stops()
        assert re.search(r"Of this reward source was faulty\.py:Faulty sha256:\w+ and is faulty\.py:Faulty sha", told)

    def test_can_be_a_warning(self, bench):
        bench.train(after=2, fault="other weights", watch__drift="warn", checkpoint__every=1)
        assert bench.checkpoints() == [1, 2, 3, 4]
        drifted = [note for note in bench.notes if "no longer scores as it did" in note]
        assert len(drifted) == 1  # and not again at every checkpoint

    def test_new_scores_are_taken_when_the_old_are_deleted(self, bench):
        bench.train(steps=1)
        bench.break_it("other weights")
        assert f"delete {bench.run}/canaries first" in bench.stops()
        for path in (bench.run / "canaries").iterdir():
            path.unlink()
        bench.train()
        assert bench.checkpoints() == [1, 4]


def stop(running):
    running.service.stop()
    running.server.should_exit = True
    wait_for(lambda: not running.server.started or refuses(running.address))


def refuses(address):
    with socket.socket() as probe:
        return probe.connect_ex(address) != 0


class TestServer:
    @pytest.fixture
    def specs(self, bench, monkeypatch):
        monkeypatch.setenv("DGPO_REWARD_DEADLINE_S", "0.5")
        return parse_rewards([f"{bench.file}:Faulty"])

    def test_that_dies_stops_the_run_and_that_comes_back_continues_it(self, bench, peace, specs):
        """The scores are the same over HTTP, and so are the weights that were trained with them."""
        with serving(specs) as running:
            bench.break_it = lambda fault: stop(running)
            told = bench.stops(after=2, rewards=[f"{running.base}/faulty"])
        assert "4 of 4 images could not be scored in iteration 3" in told
        assert f"faulty@1: no answer from {running.base}: " in told
        assert bench.checkpoints() == [2]
        with serving(specs, port=running.port):
            bench.train(rewards=[f"{running.base}/faulty"])
        assert digest(bench.run, STEPS) == peace
