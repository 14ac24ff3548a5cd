"""Suites whose prompts stand in a file that others publish.

Third-party prompts are not part of this project. Such a suite names its file, where the file comes from and its
SHA-256; any other content is refused, so that "drawbench" means the same 200 prompts in every report.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.known_suite import KnownSuite, tell_stderr
from benchmarks.prompt_files import DRAWBENCH, OCR, PICKSCORE, Announce, PromptFile, find_file, get_file
from benchmarks.suite import Suite, merge_duplicates
from rewards.errors import DgpoError
from rewards.prompt import read_prompts
from rewards.weights.folder import format_size


class PublishedSuite(KnownSuite):
    """A suite that is read from its `file`."""

    @property
    def source(self) -> str:
        return self._file.source

    def load(self, data_dir: Path | None = None, announce: Announce = tell_stderr) -> Suite:
        prompts, repeated = merge_duplicates(read_prompts(get_file(self._file, data_dir, announce)))
        notes = ()
        if repeated:
            notes = (
                f"{self.name}: the published file repeats its prompts ({len(prompts) + repeated} lines); the suite is"
                f" its {len(prompts)} distinct prompts, and --seeds sets how many images each gets.",
            )
        return self.check(Suite(self.name, prompts, self.source, self.default_rewards, notes, self.table))

    def find_missing(self, data_dir: Path | None) -> str:
        try:
            if find_file(self._file, data_dir) is not None:
                return ""
        except DgpoError as error:
            return str(error)
        size = format_size(self._file.size or 0)
        return f"{self.name} is not on this machine; its first use fetches {self._file.url} ({size})."

    @property
    def _file(self) -> PromptFile:
        assert self.file is not None, "a published suite has a file"
        return self.file


DRAWBENCH_SUITE = PublishedSuite(
    name="drawbench",
    prompts=200,
    sha256="1ccb4f9e51c9fd05bca5b34d04f8aa0460919be1e4b2cc233bf1abcb4c2bb618",
    what="DrawBench (Saharia et al. 2022), with the rewards of the paper's Table 2",
    default_rewards=("aesthetic", "deqa", "imagereward", "pickscore", "unifiedreward"),
    file=DRAWBENCH,
)
OCR_SUITE = PublishedSuite(
    name="ocr",
    prompts=1018,
    sha256="3191745107059dfee8a072f8685fcb109efd2158b0661a9d878f812f20c86c66",
    what="text rendering; the words to write stand between double quotes",
    default_rewards=("ocr",),
    file=OCR,
)
PICKSCORE_SUITE = PublishedSuite(
    name="pickscore",
    prompts=2048,
    sha256="0aeb1aeda421cd81fcf4b9f1cdf1ca830ab15b5ff42a3cd031da33ca5f13313f",
    what="Pick-a-Pic prompts",
    default_rewards=("pickscore",),
    file=PICKSCORE,
)
