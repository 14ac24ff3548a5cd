"""Suites: which prompts a model is judged on, in which order, and a fingerprint by which two reports can tell.

Third-party prompts are not part of this project. A published suite names its file, where the file comes from and its
SHA-256; any other content is refused, so that "drawbench" means the same 200 prompts in every report. GenEval's prompts
were published as a program's output and are drawn here again, which is checked by the same hash.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.prompt_files import DRAWBENCH, OCR, PICKSCORE, Announce, PromptFile, find_file, get_file
from rewards.errors import DgpoError, UsageError, suggestion
from rewards.files import sha256_of
from rewards.prompt import Prompt, read_prompts
from rewards.weights.folder import format_size

PROMPT_FILE_ENDINGS = (".txt", ".jsonl", ".csv")


@dataclass(frozen=True)
class Suite:
    """Distinct prompts in a fixed order; `notes` are sentences a person should read, such as merged duplicates."""

    name: str
    prompts: tuple[Prompt, ...]
    source: str
    default_rewards: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError(f"the suite {self.name} has no prompts")
        if merge_duplicates(self.prompts)[1]:
            raise ValueError(f"the suite {self.name} lists a prompt twice; see merge_duplicates")

    @property
    def sha256(self) -> str:
        """Fingerprint of the set of prompts; their order does not enter, since it changes no image and no score."""
        return sha256_of("\n".join(sorted(map(_line, self.prompts))))


@dataclass(frozen=True)
class PublishedSuite:
    """A suite whose prompts stand in a published file, with what they must be."""

    file: PromptFile
    prompts: int
    suite_sha256: str
    default_rewards: tuple[str, ...]
    what: str


PUBLISHED = {
    "drawbench": PublishedSuite(
        file=DRAWBENCH,
        prompts=200,
        suite_sha256="1ccb4f9e51c9fd05bca5b34d04f8aa0460919be1e4b2cc233bf1abcb4c2bb618",
        default_rewards=("aesthetic", "deqa", "imagereward", "pickscore", "unifiedreward"),
        what="DrawBench (Saharia et al. 2022), with the rewards of the paper's Table 2",
    ),
    "ocr": PublishedSuite(
        file=OCR,
        prompts=1018,
        suite_sha256="3191745107059dfee8a072f8685fcb109efd2158b0661a9d878f812f20c86c66",
        default_rewards=("ocr",),
        what="text rendering; the words to write stand between double quotes",
    ),
    "pickscore": PublishedSuite(
        file=PICKSCORE,
        prompts=2048,
        suite_sha256="0aeb1aeda421cd81fcf4b9f1cdf1ca830ab15b5ff42a3cd031da33ca5f13313f",
        default_rewards=("pickscore",),
        what="Pick-a-Pic prompts",
    ),
}


GENERATED = ("geneval",)
GENEVAL_PROMPTS = 553
GENEVAL_REWARDS = ("geneval-official", "geneval")  # the verdict that papers report, and the reward trained on
GENEVAL_SHA256 = "92d272b579e570a6e6e1d09027007d1e0dbcb58570e37128bbe44e341d296eb8"


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


def load_suite(
    name_or_path: str,
    *,
    data_dir: Path | None = None,
    builtin: Mapping[str, Callable[[], Suite]] | None = None,
    announce: Announce = lambda sentence: print(sentence, file=sys.stderr, flush=True),
) -> Suite:
    """The suite of that name, or the prompts of that file.

    Args:
        data_dir: the folder of published prompt files; without it the environment variable DGPO_DATA_DIR is asked.
            A file that is not there is downloaded, see `prompt_files`.
        builtin: makes suites that another part of the program knows.
        announce: hears of a download before it begins.

    Raises:
        UsageError: an unknown name, a prompt file that is absent, or a published one with other content.
        SetupError: a published file is not on this machine and cannot be downloaded.
    """
    builtin = builtin or {}
    if name_or_path in builtin:
        return builtin[name_or_path]()
    if name_or_path in GENERATED:
        return draw_suite(name_or_path)
    if name_or_path in PUBLISHED:
        return _load_published(name_or_path, data_dir, announce)
    path = Path(name_or_path)
    if path.is_file() or path.suffix in PROMPT_FILE_ENDINGS:
        return _load_file(path)
    names = [*builtin, *GENERATED, *PUBLISHED]
    raise UsageError(f'There is no suite and no prompt file "{name_or_path}".{suggestion(name_or_path, names)}')


def draw_suite(name: str, seed: int | None = None, per_task: int | None = None) -> Suite:
    """A suite whose prompts are drawn: the published ones, or others by the same rules if a seed or a size is given.

    Raises:
        UsageError: the suite is a fixed list, or the seed or the size is impossible.
        SetupError: the prompts drawn here are not the published ones.
    """
    from rewards.geneval import prompts as geneval

    if name not in GENERATED:
        raise UsageError(
            f'--seed and --per-task are for {", ".join(GENERATED)}; the prompts of "{name}" are not drawn.'
        )
    seed = geneval.OFFICIAL_SEED if seed is None else seed
    per_task = geneval.OFFICIAL_PER_TASK if per_task is None else per_task
    if (seed, per_task) == (geneval.OFFICIAL_SEED, geneval.OFFICIAL_PER_TASK):
        note = f"{name}: as jsonl, the prompts are the published file with the SHA-256 {geneval.METADATA_SHA256}."
        suite = Suite(name, geneval.official_prompts(), geneval.SOURCE, GENEVAL_REWARDS, (note,))
        assert suite.sha256 == GENEVAL_SHA256, "the file's hash was right, so its prompts must be too"
        return suite
    drawn = tuple(map(geneval.to_prompt, geneval.generate(seed, per_task)))
    source = f"seed {seed}, {per_task} a task, by the rules of {geneval.SOURCE}"
    return Suite(f"{name}[seed={seed},per_task={per_task}]", drawn, source, GENEVAL_REWARDS)


def list_suites(
    *, data_dir: Path | None = None, builtin: Mapping[str, Callable[[], Suite]] | None = None
) -> list[SuiteEntry]:
    """Every suite with its source, count and hash; those whose file is absent or wrong say so in `missing`."""
    entries = []
    for name, make in (builtin or {}).items():
        suite = make()
        entries.append(
            SuiteEntry(name, len(suite.prompts), suite.sha256, suite.source, "built in", suite.default_rewards)
        )
    entries.append(_describe_geneval())
    for name, published in PUBLISHED.items():
        entries.append(
            SuiteEntry(
                name,
                published.prompts,
                published.suite_sha256,
                published.file.source,
                published.what,
                published.default_rewards,
                _tell_missing(name, published.file, data_dir),
                published.file.url,
                published.file.sha256 or "",
            )
        )
    return entries


def merge_duplicates(prompts: Iterable[Prompt]) -> tuple[tuple[Prompt, ...], int]:
    """The distinct prompts in the order they first appear, and how many repetitions were left out.

    A prompt listed twice would weigh twice in every mean; repeated images of one prompt are what seeds are for.
    """
    prompts = list(prompts)
    distinct = tuple({prompt.id: prompt for prompt in prompts}.values())
    return distinct, len(prompts) - len(distinct)


def _line(prompt: Prompt) -> str:
    return prompt.canonical if prompt.spec else prompt.text


def _load_file(path: Path) -> Suite:
    prompts, repeated = merge_duplicates(read_prompts(path))
    notes = ()
    if repeated:
        notes = (f"{path}: {repeated} repeated prompts were merged; {len(prompts)} distinct prompts are left.",)
    return Suite(path.stem, prompts, str(path), notes=notes)


def _describe_geneval() -> SuiteEntry:
    from rewards.geneval.prompts import SOURCE

    try:
        draw_suite("geneval")
        missing = ""
    except DgpoError as error:
        missing = str(error)
    what = "objects, counts, colours, positions (Ghosh et al. 2023); drawn here"
    return SuiteEntry("geneval", GENEVAL_PROMPTS, GENEVAL_SHA256, SOURCE, what, GENEVAL_REWARDS, missing)


def _tell_missing(name: str, file: PromptFile, data_dir: Path | None) -> str:
    try:
        if find_file(file, data_dir) is not None:
            return ""
    except DgpoError as error:
        return str(error)
    return f"{name} is not on this machine; its first use fetches {file.url} ({format_size(file.size or 0)})."


def _load_published(name: str, data_dir: Path | None, announce: Announce) -> Suite:
    published = PUBLISHED[name]
    prompts, repeated = merge_duplicates(read_prompts(get_file(published.file, data_dir, announce)))
    notes = ()
    if repeated:
        notes = (
            f"{name}: the published file repeats its prompts ({len(prompts) + repeated} lines); the suite is its"
            f" {len(prompts)} distinct prompts, and --seeds sets how many images each gets.",
        )
    suite = Suite(name, prompts, published.file.source, published.default_rewards, notes)
    assert len(prompts) == published.prompts, "the file's hash was right, so its prompts must be too"
    assert suite.sha256 == published.suite_sha256, "the file's hash was right, so its prompts must be too"
    return suite
