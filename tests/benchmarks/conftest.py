"""Results folders and suites small enough to work out by hand, made by the real writers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.record import describe_run, write_record
from benchmarks.harness.request import Request
from benchmarks.harness.store import FAILED, OK, Row, ScoreStore
from benchmarks.suite import Suite
from rewards.card import Card
from rewards.pool import RewardFacts
from rewards.prompt import Prompt
from rewards.spec import RewardSpec

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def data_dir() -> Path:
    """The folder of published prompt files, or a skip where this machine has none."""
    folder = Path(os.environ.get("DGPO_DATA_DIR", SHARED_DATA))
    if not (folder / "drawbench_test.txt").is_file():
        pytest.skip("no published prompt files here; name their folder with DGPO_DATA_DIR")
    return folder


@pytest.fixture
def suite() -> Suite:
    return Suite("small", tuple(Prompt(text) for text in ("a cat", "a dog", 'a sign that says "OPEN"')), "by hand")


def judge(name: str, version: int, higher_is_better: bool | None, engine: str) -> RewardFacts:
    """A reward that exists only in run.json: what a results folder says of it."""
    card = Card(
        name=name,
        version=version,
        unit="points",
        bounds=(None, None),
        higher_is_better=higher_is_better,
        licence="Apache-2.0",
        summary="",
    )
    return RewardFacts(RewardSpec(name, version), card, {"engine": engine})


Scores = Mapping[str, Mapping[tuple[int, int], float | None]]
WriteResults = Callable[..., Path]


@pytest.fixture
def write_results(tmp_path: Path, suite: Suite) -> WriteResults:
    """Write a results folder; `scores` maps "name@version" to {(number of the prompt, seed): score or None}."""

    def write(
        name: str,
        scores: Scores,
        *,
        of: Suite = suite,
        folder: str | None = None,
        trained_on: list[str] | None = None,
        direction: Mapping[str, bool | None] | None = None,
        engine: str = "brass 1.0",
        **provenance: Any,
    ) -> Path:
        path = tmp_path / (folder or name)
        path.mkdir()
        judges = {}
        for key in scores:
            reward, _, version = key.partition("@")
            judges[key] = judge(reward, int(version), (direction or {}).get(reward, True), engine)
        cells = sorted({cell for cells in scores.values() for cell in cells})
        facts = {"model": name, "sampler": {"steps": 10, "dtype": "fp32"}, **provenance}
        seeds = sorted({seed for _, seed in cells})
        request = Request(of, (), path, name, seeds=seeds, trained_on=trained_on, facts=facts)
        write_record(path, describe_run(request, judges))
        ScoreStore(path).append(
            _make_row(of, number, seed, reward, score, run=name)
            for reward, cells in scores.items()
            for (number, seed), score in cells.items()
        )
        return path

    return write


def _make_row(
    suite: Suite, number: int, seed: int, reward: str = "taste@1", score: float | None = 0.5, run: str = "base"
) -> Row:
    prompt = suite.prompts[number]
    return Row(
        run=run,
        suite=suite.name,
        suite_sha=suite.sha256,
        prompt_id=prompt.id,
        prompt=prompt.text,
        seed=seed,
        image=f"images/{prompt.id}_{seed}.png",
        image_sha="0" * 64,
        reward=reward,
        score=score,
        status=FAILED if score is None else OK,
        detail="the engine gave up" if score is None else "",
        seconds=0.25,
    )


@pytest.fixture
def make_row() -> Callable[..., Row]:
    return _make_row
