"""The contract of a suite that has a name: what it is, how its prompts come here, and what else it brings."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.prompt_files import Announce, PromptFile
from benchmarks.suite import Suite
from benchmarks.suite_table import SuiteTable
from rewards.errors import DgpoError
from rewards.prompt import Prompt


def tell_stderr(sentence: str) -> None:
    """Where a caller has nobody else to tell."""
    print(sentence, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class SuiteEntry:
    """One line of the list of suites.

    `url` and `file_sha256` are those of its file, empty for suites that are made here; `missing` says what has to
    happen when that is not on this machine.
    """

    name: str
    prompts: int
    sha256: str
    source: str
    what: str
    default_rewards: tuple[str, ...]
    missing: str = ""
    url: str = ""
    file_sha256: str = ""


@dataclass(frozen=True)
class TrainingPrompts:
    """Prompts to train on, how they were made (for run.json), and those that the sample grids show."""

    prompts: list[Prompt]
    facts: Mapping[str, Any]
    samples: list[Prompt]

    def describe(self) -> str:
        """How many, from where, and one of them."""
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items() if name not in ("source", "count"))
        return (
            f"{len(self.prompts)} prompts from {self.facts['source']}{f' ({facts})' if facts else ''}, for instance: "
            f"{self.prompts[0].text}"
        )


@dataclass(frozen=True)
class KnownSuite:
    """A suite that is known by its name, see `benchmarks.suites.SUITES`; a class of its own says how it is loaded."""

    name: str
    prompts: int
    sha256: str
    """Of its prompts, see `Suite.sha256`."""
    what: str
    default_rewards: tuple[str, ...]
    own_rewards: tuple[str, ...] = ()
    """Names of rewards that can judge this suite's prompts only, and so train on prompts like these."""
    file: PromptFile | None = None
    """What it is read from, of a suite that is published as a file."""

    @property
    def source(self) -> str:
        raise NotImplementedError(f"the suite {self.name} names no source")

    @property
    def table(self) -> SuiteTable | None:
        """A table of its own."""
        return None

    @property
    def drawn(self) -> bool:
        """Whether its prompts are drawn here by rules, and others could be by the same."""
        return False

    def load(self, data_dir: Path | None = None, announce: Announce = tell_stderr) -> Suite:
        """The suite; see `benchmarks.suites.load_suite`."""
        raise NotImplementedError(f"the suite {self.name} is not loaded")

    def draw(self, seed: int | None, per_task: int | None) -> Suite:
        """Other prompts by the same rules, of a suite that is drawn."""
        raise NotImplementedError(f"the suite {self.name} is not drawn")

    def training_prompts(self, seed: int, count: int) -> TrainingPrompts | None:
        """Prompts like these to train on, without these themselves; None where nobody has made any."""
        return None

    def published_line(self, prompt: Prompt) -> str:
        """A prompt as a line of the suite's published file."""
        return prompt.canonical

    def find_missing(self, data_dir: Path | None) -> str:
        """What has to happen before it can be loaded; nothing where it is here."""
        try:
            self.load(data_dir)
        except DgpoError as error:
            return str(error)
        return ""

    def describe(self, data_dir: Path | None) -> SuiteEntry:
        """Its line in the list of suites."""
        return SuiteEntry(
            self.name,
            self.prompts,
            self.sha256,
            self.source,
            self.what,
            self.default_rewards,
            self.find_missing(data_dir),
            self.file.url if self.file else "",
            (self.file.sha256 or "") if self.file else "",
        )

    def check(self, suite: Suite) -> Suite:
        """The same suite, whose prompts are what they must be."""
        assert len(suite.prompts) == self.prompts, "the file's hash was right, so its prompts must be too"
        assert suite.sha256 == self.sha256, "the file's hash was right, so its prompts must be too"
        return suite
