"""GenEval's 553 prompts: they were published as a program's output, and are drawn here again.

That they are the published ones is checked by the same hash as of a suite that is read from a file.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from benchmarks.known_suite import KnownSuite, TrainingPrompts, tell_stderr
from benchmarks.prompt_files import Announce
from benchmarks.suite import Suite
from benchmarks.suite_table import SuiteTable
from rewards.prompt import Prompt

REWARDS = ("geneval-official", "geneval")  # the verdict that papers report, and the reward trained on


class GenEvalSuite(KnownSuite):
    """Imports what draws and what counts when it is asked, as `import benchmarks` costs nothing."""

    @property
    def source(self) -> str:
        from rewards.geneval.prompts import SOURCE

        return SOURCE

    @property
    def table(self) -> SuiteTable:
        from benchmarks.geneval.table import GENEVAL_TABLE

        return GENEVAL_TABLE

    @property
    def drawn(self) -> bool:
        return True

    def load(self, data_dir: Path | None = None, announce: Announce = tell_stderr) -> Suite:
        return self.draw(None, None)

    def draw(self, seed: int | None, per_task: int | None) -> Suite:
        from rewards.geneval import prompts as geneval

        seed = geneval.OFFICIAL_SEED if seed is None else seed
        per_task = geneval.OFFICIAL_PER_TASK if per_task is None else per_task
        if (seed, per_task) == (geneval.OFFICIAL_SEED, geneval.OFFICIAL_PER_TASK):
            published = f"the published file with the SHA-256 {geneval.METADATA_SHA256}"
            notes = (f"{self.name}: as jsonl, the prompts are {published}.",)
            prompts, rewards = geneval.official_prompts(), self.default_rewards
            return self.check(Suite(self.name, prompts, self.source, rewards, notes, self.table))
        drawn = tuple(map(geneval.to_prompt, geneval.generate(seed, per_task)))
        source = f"seed {seed}, {per_task} a task, by the rules of {self.source}"
        name = f"{self.name}[seed={seed},per_task={per_task}]"
        return Suite(name, drawn, source, self.default_rewards, table=self.table)

    def training_prompts(self, seed: int, count: int) -> TrainingPrompts:
        """The first so many of the training stream; the grids show one test prompt of each task."""
        from rewards.geneval.prompts import official_prompts, training_stream

        prompts = list(islice(training_stream(seed), count))
        one_a_task = {prompt.spec["tag"]: prompt for prompt in reversed(official_prompts())}
        facts = {
            "source": "GenEval's training stream (rewards.geneval.prompts)",
            "count": len(prompts),
            "seed": seed,
            "distinct": len(set(prompts)),
            "without": f"the {self.prompts} test prompts",
        }
        return TrainingPrompts(prompts, facts, list(reversed(one_a_task.values())))

    def published_line(self, prompt: Prompt) -> str:
        from rewards.geneval.prompts import to_line, to_record

        return to_line(to_record(prompt))


GENEVAL_SUITE = GenEvalSuite(
    name="geneval",
    prompts=553,
    sha256="92d272b579e570a6e6e1d09027007d1e0dbcb58570e37128bbe44e341d296eb8",
    what="objects, counts, colours, positions (Ghosh et al. 2023); drawn here",
    default_rewards=REWARDS,
    own_rewards=REWARDS,
)
