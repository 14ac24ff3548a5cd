"""Suites: which prompts a model is judged on, in which order, and a fingerprint by which two reports can tell.

Third-party prompts are not part of this project. A published suite names its file, where the file comes from and its
SHA-256; any other content is refused, so that "drawbench" means the same 200 prompts in every report. GenEval's prompts
were published as a program's output and are drawn here again, which is checked by the same hash.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rewards.errors import DgpoError, UsageError, suggestion
from rewards.prompt import Prompt, read_prompts

DATA_VARIABLE = "DGPO_DATA_DIR"
PROMPT_FILE_ENDINGS = (".txt", ".jsonl", ".csv")
_UPSTREAM = "github.com/NVlabs/DiffusionNFT at 24af5554898d85e93efa492f42b5e9cdf4156e9b"


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
        return hashlib.sha256("\n".join(sorted(map(_line, self.prompts))).encode()).hexdigest()


@dataclass(frozen=True)
class PublishedFile:
    """One published prompt file: where it lies under a data folder, and what it must contain."""

    names: tuple[str, ...]
    file_sha256: str
    prompts: int
    suite_sha256: str
    default_rewards: tuple[str, ...]
    what: str

    @property
    def source(self) -> str:
        return f"{self.names[1]} of {_UPSTREAM}"


PUBLISHED = {
    "drawbench": PublishedFile(
        names=("drawbench_test.txt", "dataset/drawbench/test.txt"),
        file_sha256="9006b98feabb94b28a2bc0c88de42fd4f31a9ec3c2a19e308a02c5385b7172f0",
        prompts=200,
        suite_sha256="1ccb4f9e51c9fd05bca5b34d04f8aa0460919be1e4b2cc233bf1abcb4c2bb618",
        default_rewards=("imagestats",),
        what="the 200 DrawBench prompts (Saharia et al. 2022)",
    ),
    "ocr": PublishedFile(
        names=("ocr_test.txt", "dataset/ocr/test.txt"),
        file_sha256="4dd8caf3ab6ade73bd376c7d14c6ca49b6eacfb1bd321e22c40714ae4a98d4dc",
        prompts=1018,
        suite_sha256="3191745107059dfee8a072f8685fcb109efd2158b0661a9d878f812f20c86c66",
        default_rewards=("ocr",),
        what="text rendering; the words to write stand between double quotes",
    ),
    "pickscore": PublishedFile(
        names=("pickscore_test.txt", "dataset/pickscore/test.txt"),
        file_sha256="d75c025fa451866e70f7e36243f7cdd93095523cb51f5f9651f2ce3236d20262",
        prompts=2048,
        suite_sha256="0aeb1aeda421cd81fcf4b9f1cdf1ca830ab15b5ff42a3cd031da33ca5f13313f",
        default_rewards=(),
        what="Pick-a-Pic prompts; a reward has to be named",
    ),
}


GENERATED = ("geneval",)
GENEVAL_PROMPTS = 553
GENEVAL_REWARDS = ("geneval-official", "geneval")  # the verdict that papers report, and the reward trained on
GENEVAL_SHA256 = "92d272b579e570a6e6e1d09027007d1e0dbcb58570e37128bbe44e341d296eb8"


@dataclass(frozen=True)
class SuiteEntry:
    """One line of the list of suites. `missing` says what to do when the suite's file is not on this machine."""

    name: str
    prompts: int
    sha256: str
    source: str
    what: str
    default_rewards: tuple[str, ...]
    missing: str = ""


def load_suite(
    name_or_path: str, *, data_dir: Path | None = None, builtin: Mapping[str, Callable[[], Suite]] | None = None
) -> Suite:
    """The suite of that name, or the prompts of that file.

    `data_dir` is the folder of published prompt files; without it the environment variable DGPO_DATA_DIR is asked.
    `builtin` makes suites that another part of the program knows. Raises UsageError for an unknown name, a file that is
    absent, or a published file with other content than the published one.
    """
    builtin = builtin or {}
    if name_or_path in builtin:
        return builtin[name_or_path]()
    if name_or_path in GENERATED:
        return draw_suite(name_or_path)
    if name_or_path in PUBLISHED:
        return _load_published(name_or_path, data_dir)
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
        try:
            _read_published(name, data_dir)
            missing = ""
        except DgpoError as error:
            missing = str(error)
        entries.append(
            SuiteEntry(
                name,
                published.prompts,
                published.suite_sha256,
                published.source,
                published.what,
                published.default_rewards,
                missing,
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


def _load_published(name: str, data_dir: Path | None) -> Suite:
    published = PUBLISHED[name]
    prompts, repeated = merge_duplicates(read_prompts(_read_published(name, data_dir)))
    notes = ()
    if repeated:
        notes = (
            f"{name}: the published file repeats its prompts ({len(prompts) + repeated} lines); the suite is its"
            f" {len(prompts)} distinct prompts, and --seeds sets how many images each gets.",
        )
    suite = Suite(name, prompts, published.source, published.default_rewards, notes)
    assert len(prompts) == published.prompts, "the file's hash was right, so its prompts must be too"
    assert suite.sha256 == published.suite_sha256, "the file's hash was right, so its prompts must be too"
    return suite


def _read_published(name: str, data_dir: Path | None) -> Path:
    """The path of a published file whose content was checked."""
    published = PUBLISHED[name]
    folder = data_dir or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
    if folder is None:
        raise UsageError(
            f'The suite "{name}" needs its prompt file: put {published.names[0]} ({published.source}) into a folder'
            f" and name that folder with --data or {DATA_VARIABLE}."
        )
    path = next((folder / file for file in published.names if (folder / file).is_file()), None)
    if path is None:
        raise UsageError(
            f'The suite "{name}" was not found in {folder}: neither {" nor ".join(published.names)} is there.'
            f" The file is {published.source}."
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != published.file_sha256:
        raise UsageError(
            f'{path} is not the published file of the suite "{name}": its SHA-256 is {found}, and'
            f" {published.file_sha256} was expected. Get it again ({published.source}), or give it another name and"
            " evaluate on it as a prompt file of your own."
        )
    return path
