"""The table of suites, and how a name or a file becomes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.geneval.suite import GENEVAL_SUITE
from benchmarks.known_suite import KnownSuite, SuiteEntry, tell_stderr
from benchmarks.prompt_files import Announce
from benchmarks.published_suite import DRAWBENCH_SUITE, OCR_SUITE, PICKSCORE_SUITE
from benchmarks.suite import Suite, merge_duplicates
from rewards.errors import UsageError, suggestion
from rewards.prompt import read_prompts

PROMPT_FILE_ENDINGS = (".txt", ".jsonl", ".csv")
SUITES: dict[str, KnownSuite] = {
    suite.name: suite for suite in (GENEVAL_SUITE, DRAWBENCH_SUITE, OCR_SUITE, PICKSCORE_SUITE)
}


def load_suite(
    name_or_path: str,
    *,
    data_dir: Path | None = None,
    builtin: Mapping[str, Callable[[], Suite]] | None = None,
    announce: Announce = tell_stderr,
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
    if name_or_path in SUITES:
        return SUITES[name_or_path].load(data_dir, announce)
    path = Path(name_or_path)
    if path.is_file() or path.suffix in PROMPT_FILE_ENDINGS:
        return _load_file(path)
    raise UsageError(
        f'There is no suite and no prompt file "{name_or_path}".{suggestion(name_or_path, [*builtin, *SUITES])}'
    )


def draw_suite(name: str, seed: int | None = None, per_task: int | None = None) -> Suite:
    """A suite whose prompts are drawn: the published ones, or others by the same rules if a seed or a size is given.

    Raises:
        UsageError: the suite is a fixed list, or the seed or the size is impossible.
        SetupError: the prompts drawn here are not the published ones.
    """
    known = SUITES.get(name)
    if known is None or not known.drawn:
        drawn = ", ".join(one.name for one in SUITES.values() if one.drawn)
        raise UsageError(f'--seed and --per-task are for {drawn}; the prompts of "{name}" are not drawn.')
    return known.draw(seed, per_task)


def list_suites(
    *, data_dir: Path | None = None, builtin: Mapping[str, Callable[[], Suite]] | None = None
) -> list[SuiteEntry]:
    """Every suite with its source, count and hash; those whose file is absent or wrong say so in `missing`."""
    made = [make() for make in (builtin or {}).values()]
    return [
        *(
            SuiteEntry(one.name, len(one.prompts), one.sha256, one.source, "built in", one.default_rewards)
            for one in made
        ),
        *(known.describe(data_dir) for known in SUITES.values()),
    ]


def find_own_suite(rewards: Sequence[str]) -> KnownSuite | None:
    """The suite whose prompts alone one of these rewards can judge."""
    return next((known for known in SUITES.values() if {*known.own_rewards} & {*rewards}), None)


def _load_file(path: Path) -> Suite:
    prompts, repeated = merge_duplicates(read_prompts(path))
    notes = ()
    if repeated:
        notes = (f"{path}: {repeated} repeated prompts were merged; {len(prompts)} distinct prompts are left.",)
    tables = [known.table for known in SUITES.values()]
    table = next((one for one in tables if one is not None and one.fits(prompts)), None)
    return Suite(path.stem, prompts, str(path), notes=notes, table=table)
