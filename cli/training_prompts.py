"""What a run trains on, where nothing was named: the reward's own prompts, or the model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.options import DEFAULT_MODEL
from rewards.errors import UsageError

if TYPE_CHECKING:
    from dgpo.config import Config
    from rewards.prompt import Prompt

SAMPLED = 6
# As many as the list that the published model was trained on.
STREAMED = 50_000
GENEVAL = ("geneval", "geneval-official")


@dataclass(frozen=True)
class TrainingPrompts:
    """The prompts, how they were made (for run.json), and those that the sample grids show."""

    prompts: list[Prompt]
    facts: Mapping[str, Any]
    samples: list[Prompt]

    def describe(self) -> str:
        """For `--dry-run`: how many, from where, and one of them."""
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items() if name not in ("source", "count"))
        return (
            f"{len(self.prompts)} prompts from {self.facts['source']}{f' ({facts})' if facts else ''}, for instance: "
            f"{self.prompts[0].text}"
        )


def asks_for_objects(names: list[str]) -> bool:
    """Whether one of these rewards judges GenEval's prompts only."""
    return bool(set(GENEVAL) & set(names))


def find_training_prompts(config: Config, data: Path | None) -> TrainingPrompts:
    """Those that were named; else GenEval's stream, the embedded model's own, or the reward's published list.

    Raises:
        UsageError: there is nothing to train on.
        SetupError: the reward's list is not on this machine and cannot be fetched.
    """
    if config.prompts is not None:
        return _read_named(config.prompts, data)
    if asks_for_objects([spec.name for spec in config.reward_specs]):
        return _stream_geneval(config.seed)
    if config.model == DEFAULT_MODEL:
        return _sign_words()
    return _find_published(config, data)


def _read_named(name: str, data: Path | None) -> TrainingPrompts:
    from cli.suites import find_suite
    from rewards.prompt import read_prompts

    if Path(name).exists():
        return _listed(read_prompts(Path(name)), str(Path(name).resolve()))
    suite = find_suite(name, data)
    return _listed(list(suite.prompts), suite.source)


def _stream_geneval(seed: int) -> TrainingPrompts:
    """The first so many of GenEval's training stream; the grids show one test prompt of each task."""
    from rewards.geneval.prompts import official_prompts, training_stream

    prompts = list(islice(training_stream(seed), STREAMED))
    one_a_task = {prompt.spec["tag"]: prompt for prompt in reversed(official_prompts())}
    facts = {
        "source": "GenEval's training stream (rewards.geneval.prompts)",
        "count": len(prompts),
        "seed": seed,
        "distinct": len(set(prompts)),
        "without": "the 553 test prompts",
    }
    return TrainingPrompts(prompts, facts, list(reversed(one_a_task.values())))


def _sign_words() -> TrainingPrompts:
    from dgpo.models.tiny.words import held_out_words, sign_prompts, training_words
    from rewards.prompt import Prompt

    prompts = [Prompt(text) for text in sign_prompts(training_words())]
    samples = [Prompt(text) for text in sign_prompts(held_out_words())[:SAMPLED]]
    facts = {"source": "the embedded model's training words (dgpo/models/tiny)", "count": len(prompts)}
    return TrainingPrompts(prompts, facts, samples)


def _find_published(config: Config, data: Path | None) -> TrainingPrompts:
    """The list that was published with the first reward that has one; fetched if it is not on this machine."""
    from benchmarks.prompt_files import TRAINING, get_file
    from cli.screen import say
    from rewards.prompt import read_prompts
    from rewards.weights import sha256

    for spec in config.reward_specs:
        if spec.name in TRAINING:
            path = get_file(TRAINING[spec.name], data, say)
            return _listed(read_prompts(path), TRAINING[spec.name].source, sha256=sha256(path))
    raise UsageError(
        "Say which prompts to train on, with --prompts FILE or SUITE; lists are known for the rewards "
        f"{', '.join(sorted((*TRAINING, 'geneval')))} only."
    )


def _listed(prompts: list[Prompt], source: str, **facts: str) -> TrainingPrompts:
    return TrainingPrompts(prompts, {"source": source, "count": len(prompts), **facts}, prompts[:SAMPLED])
