"""What a run trains on, where nothing was named: the reward's own prompts, or the model's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.known_suite import KnownSuite, TrainingPrompts
from benchmarks.prompt_files import TRAINING, PromptFile, describe_source, get_file, would_fetch
from benchmarks.suites import SUITES, find_own_suite
from cli.options import DEFAULT_MODEL
from cli.screen import say
from cli.suites import find_suite, suite_names
from rewards.errors import UsageError
from rewards.files import sha256
from rewards.prompt import Prompt, read_prompts

if TYPE_CHECKING:
    from benchmarks.suite import Suite
    from dgpo.config import Config
    from dgpo.reward_choice import RewardChoice

SAMPLED = 6
# As many as the list that the published model was trained on.
STREAMED = 50_000


def find_training_prompts(config: Config, rewards: RewardChoice) -> TrainingPrompts:
    """Those that were named; else those of the suite that a reward needs, the embedded model's, or the reward's list.

    Raises:
        UsageError: there is nothing to train on.
        SetupError: the reward's list is not on this machine and cannot be fetched.
    """
    if config.source.kind == "recorded":
        return _recorded(config)
    if config.prompts is not None:
        return _read_named(config.prompts, data_folder(config))
    own = _own_suite(rewards)
    streamed = own.training_prompts(config.seed, STREAMED) if own is not None else None
    if streamed is not None:
        return streamed
    if config.model == DEFAULT_MODEL:
        return _sign_words()
    file = _published_list(rewards)
    path = get_file(file, data_folder(config), say)
    return _listed(read_prompts(path), describe_source(file, path), sha256=sha256(path))


def files_to_fetch(config: Config, rewards: RewardChoice) -> list[PromptFile]:
    """The published prompt files that this training reads, to train on or to be evaluated on, and would fetch first.

    Raises:
        UsageError, SetupError: as `find_training_prompts` does where a file is absent and may not be fetched.
    """
    files = dict.fromkeys((file_for_training(config, rewards), file_for_evaluation(config)))
    return [file for file in files if file is not None and would_fetch(file, data_folder(config))]


def file_for_training(config: Config, rewards: RewardChoice) -> PromptFile | None:
    """The published file that is trained on, if one is."""
    if config.source.kind == "recorded":
        return None
    if config.prompts is not None:
        return _file_of_suite(config.prompts)
    return None if _own_suite(rewards) or config.model == DEFAULT_MODEL else _published_list(rewards)


def file_for_evaluation(config: Config) -> PromptFile | None:
    """The published file that the run is evaluated on, if one is."""
    return _file_of_suite(config.evaluation.suite) if config.evaluation.on else None


def find_evaluation_suite(config: Config) -> Suite | None:
    """What the run is evaluated on now and then; None for one that is not."""
    if config.evaluation.suite is None or not config.evaluation.on:
        return None
    return find_suite(config.evaluation.suite, data_folder(config))


def data_folder(config: Config) -> Path | None:
    """Where published prompt files are, if a folder was named."""
    return None if config.data is None else Path(config.data)


def _file_of_suite(name: str | None) -> PromptFile | None:
    known = SUITES.get(name or "")
    return known.file if known else None


def _own_suite(rewards: RewardChoice) -> KnownSuite | None:
    return find_own_suite([spec.name for spec in rewards.trained])


def _recorded(config: Config) -> TrainingPrompts:
    """Those of a results folder that have a group of images; others are said."""
    from dgpo.session import find_recording

    recording = find_recording(config)
    assert recording is not None
    if recording.left_out:
        say(f"{recording.left_out} prompts of {recording.folder} have fewer than {config.group_size} images: left out")
    return _listed(recording.prompts, str(recording.folder))


def _read_named(name: str, data: Path | None) -> TrainingPrompts:
    """A suite of that name goes before a file or folder; a file is trained on as it is, repetitions included."""
    path = Path(name)
    if os.path.isfile(path) and name not in suite_names():
        return _listed(read_prompts(path), str(path.resolve()))
    suite = find_suite(name, data)
    return _listed(list(suite.prompts), suite.source)


def _sign_words() -> TrainingPrompts:
    from dgpo.models.tiny.words import held_out_words, sign_prompts, training_words

    prompts = [Prompt(text) for text in sign_prompts(training_words())]
    samples = [Prompt(text) for text in sign_prompts(held_out_words())[:SAMPLED]]
    facts = {"source": "the embedded model's training words (dgpo/models/tiny)", "count": len(prompts)}
    return TrainingPrompts(prompts, facts, samples)


def _published_list(rewards: RewardChoice) -> PromptFile:
    """The list that was published with the first reward that has one."""
    for spec in rewards.trained:
        if spec.name in TRAINING:
            return TRAINING[spec.name]
    raise UsageError(
        "Say which prompts to train on, with --prompts FILE or SUITE; lists are known for the rewards "
        f"{', '.join(sorted({*TRAINING, *(name for name, known in SUITES.items() if known.own_rewards)}))} only."
    )


def _listed(prompts: list[Prompt], source: str, **facts: str) -> TrainingPrompts:
    return TrainingPrompts(prompts, {"source": source, "count": len(prompts), **facts}, prompts[:SAMPLED])
