"""`dgpo score`: images that are already there, judged by rewards, into a CSV or Parquet file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from cli.options import AsJson, JudgeTexts, RewardSeconds, RewardSets, WeightFolders, Workers, check_deadline
from cli.screen import hear_rewards, print_json, print_table, say
from rewards.errors import UsageError
from rewards.escape import escape_controls
from rewards.exits import SOME_FAILED
from rewards.files import about, is_stream
from rewards.numbers import format_number
from rewards.reward import DEADLINE_S

if TYPE_CHECKING:
    from benchmarks.harness.draft import Draft, Key
    from benchmarks.harness.listing import Entry
    from benchmarks.harness.ray_pool import RayPool
    from benchmarks.harness.shard import Part, Shard
    from benchmarks.harness.store import Row
    from benchmarks.harness.tally import Tally
    from rewards.pool import RewardFacts, ScoringPool
    from rewards.spec import RewardSpec

    # Batches of rows as they are made, each with its place in the order of the list.
    Placed = Iterator[tuple[Any, list[Row]]]

# The answer goes there anyhow, and opening it once more would write over what stands there already.
STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class Engine(StrEnum):
    LOCAL = "local"
    RAY = "ray"


def score(
    files: Annotated[list[str] | None, typer.Argument(metavar="[FILE]...", help="Further sources.")] = None,
    reward: JudgeTexts = None,
    reward_set: RewardSets = None,
    weights: WeightFolders = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images",
            metavar="DIR|FILE|URL",
            help="A folder (its metadata.csv with file_name[,prompt][,seed], else its image files, else its tables and "
            "tars), an image, a list (.csv, .jsonl), a table (.parquet) or a .tar; repeatable.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", metavar="FILE", help="Prompts of images named PROMPTID_SEED.png, or with specs."),
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="One prompt for all images.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE.csv|.parquet", help="Otherwise the CSV goes to stdout."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard", metavar="I/N", help="Score the I-th of N parts, from 1; `dgpo merge` joins their files."
        ),
    ] = None,
    max_failed: Annotated[int, typer.Option("--max-failed", min=0, help="Images that may stay without a score.")] = 0,
    engine: Annotated[
        Engine,
        typer.Option(
            "--engine",
            help="ray: --workers are actors on the Ray cluster that RAY_ADDRESS names, else on one of its own here; "
            "the same scores.",
        ),
    ] = Engine.LOCAL,
    workers: Workers = 1,
    reward_seconds: RewardSeconds = DEADLINE_S,
    as_json: AsJson = False,
) -> None:
    """Score images by rewards: a row per image, prompt and reward, in the columns of scores.csv."""
    from benchmarks.harness.listing import list_images
    from benchmarks.harness.score import check_entries
    from benchmarks.harness.score_files import check_output
    from benchmarks.harness.shard import cut, describe_part, parse_shard
    from rewards.parse import parse_judges
    from rewards.prompt import read_prompts

    hear_rewards()
    check_deadline(reward_seconds, workers)
    if engine is Engine.RAY and workers == 0:
        raise UsageError("--engine ray scores in actors, never in this process; give --workers 1 or more.")
    sources = [*(images or ()), *(files or ())]
    if not sources:
        raise UsageError("Say which images to score: --images DIR, or image files, tables or tars.")
    specs = parse_judges(reward or (), reward_set or (), weights or ())
    if not specs:
        raise UsageError(
            "Say by what to score: --reward NAME, for instance --reward ocr. `dgpo rewards ls` lists them."
        )
    output = None if str(output) in STANDARD_OUTPUT else output
    if output is not None:
        check_output(output)
    which = None if shard is None else parse_shard(shard)
    if which is not None and (output is None or is_stream(output)):
        raise UsageError("--shard needs --output FILE: beside it is noted what it is a part of, for `dgpo merge`.")
    listed = list_images(sources, read_prompts(prompts) if prompts is not None else (), prompt)
    entries = listed if which is None else cut(listed, which)
    if which is not None:
        say(f"shard {which}: {len(entries)} of {len(listed)} images")
    with _open_pool(engine, specs, workers, reward_seconds) as pool:
        check_entries(entries, pool)
        rewards = {} if output is None and not as_json else pool.facts()  # hashed are gigabytes of weights
        part = None if which is None else describe_part(which, entries, listed, rewards)
        tally, rows = _score(entries, rewards, output, pool, part, silent=as_json)
    if as_json:
        print_json(_document(tally, rewards, rows, output, which))
    elif output is not None:
        _show(tally, rewards, rows, output)
    if len(tally.failed) > max_failed:
        say(f"{len(tally.failed)} of {len(entries)} images could not be scored, and --max-failed is {max_failed}")
        raise typer.Exit(SOME_FAILED)


def _open_pool(
    engine: Engine, specs: Sequence[RewardSpec], workers: int, reward_seconds: float
) -> ScoringPool | RayPool:
    from cli.threads import decided_threads, scoring_threads, share_cores

    if engine is Engine.RAY:
        from benchmarks.harness.ray_cluster import is_running_elsewhere
        from benchmarks.harness.ray_pool import RayPool

        # How many cores other machines have is not known here.
        threads = decided_threads(os.environ) or 1 if is_running_elsewhere() else scoring_threads(workers)
        return RayPool(specs, workers, threads, deadline_s=reward_seconds, on_note=say)
    from rewards.pool import ScoringPool

    if workers == 0:
        share_cores(0)
    return ScoringPool(specs, workers, scoring_threads(workers), deadline_s=reward_seconds)


def _score(
    entries: Sequence[Entry],
    rewards: Mapping[str, RewardFacts],
    output: Path | None,
    pool: ScoringPool | RayPool,
    part: Part | None,
    *,
    silent: bool,
) -> tuple[Tally, list[Row]]:
    """All rows, with a progress line; in the draft as they are made, or on a stream: a pipe, a device, or stdout."""
    from benchmarks.harness.draft import Draft
    from benchmarks.harness.tally import Tally
    from cli.progress import Progress
    from rewards.pool import ScoringPool

    keys = [spec.key for spec in pool.specs]
    tally, made, done = Tally(keys), {}, 0
    with ExitStack() as opened:
        stream = draft = None
        if output is not None and is_stream(output):
            opened.enter_context(about(output))
            stream = opened.enter_context(output.open("w", encoding="utf-8"))
        elif output is not None:
            draft = opened.enter_context(Draft(output, rewards))
            _tell(draft)
        elif not silent:
            stream = sys.stdout
        progress = opened.enter_context(Progress("score", len(entries)))
        known = draft.known if draft is not None else {}
        batches = _batches(entries, pool, known, progress.say, in_order=stream is not None)
        for place, batch in batches if stream is None else _write_rows(batches, stream):
            if draft is not None:
                draft.add(batch)
            tally.add(batch)
            made[place] = batch
            done += len(batch)
            if len(made) == 1 and not isinstance(pool, ScoringPool):
                progress.begin(done // len(keys))  # until now Ray was starting actors, which says nothing of the rest
            progress.update(done // len(keys), _note(tally))
        rows = [row for place in sorted(made) for row in made[place]]
        if draft is not None:
            draft.finish(rows, part)
    return _tally_of(rows, keys), rows


def _batches(
    entries: Sequence[Entry],
    pool: ScoringPool | RayPool,
    known: Mapping[Key, Row],
    on_note: Callable[[str], None],
    *,
    in_order: bool,
) -> Placed:
    from rewards.pool import ScoringPool

    if isinstance(pool, ScoringPool):
        from benchmarks.harness.score import score_images

        yield from enumerate(score_images(entries, pool, known))
    else:
        pool.on_note = on_note
        yield from pool.score_images(entries, known, in_order=in_order)


def _tally_of(rows: Iterable[Row], keys: Sequence[str]) -> Tally:
    """In the order of the rows, by which a sum is rounded."""
    from benchmarks.harness.tally import Tally

    tally = Tally(keys)
    tally.add(rows)
    return tally


def _tell(draft: Draft) -> None:
    """What is left of an earlier, interrupted command."""
    if draft.outdated:
        say(f"{draft.folder} was left by a command with other rewards or weights; starting over")
    elif draft.known:
        say(f"going on from {draft.folder}: {len(draft.known)} scores are there")


def _write_rows(batches: Placed, stream: IO[str]) -> Placed:
    """The same batches; each is on the stream before it is handed on."""
    from benchmarks.harness.store import format_rows

    header = True
    for place, batch in batches:
        text = format_rows(batch, header=header).decode()
        stream.write(escape_controls(text) if stream.isatty() else text)  # file names and details may steer a terminal
        stream.flush()
        header = False
        yield place, batch


def _note(tally: Tally) -> str:
    means = ", ".join(f"{key} {format_number(tally.mean(key))}" for key in tally.keys)
    return f"{means}, {len(tally.failed)} failed" if tally.failed else means


def _show(tally: Tally, rewards: Mapping[str, RewardFacts], rows: Sequence[Row], output: Path) -> None:
    from benchmarks.harness.summary import tell_failures

    means = [
        (key, reward.card.unit, format_number(tally.mean(key)), tally.scored[key], tally.failures[key])
        for key, reward in rewards.items()
    ]
    print_table(("reward", "unit", "mean", "scored", "failed"), means)
    for line in tell_failures(rows):
        print(escape_controls(line))
    print(f"scores: {output}")


def _document(
    tally: Tally, rewards: Mapping[str, RewardFacts], rows: Sequence[Row], output: Path | None, shard: Shard | None
) -> dict[str, Any]:
    from benchmarks.harness.record import describe_reward

    described = [
        {
            "reward": key,
            "mean": tally.mean(key),
            "scored": tally.scored[key],
            "failed": tally.failures[key],
            **describe_reward(reward),
        }
        for key, reward in rewards.items()
    ]
    return {
        "output": None if output is None else str(output),
        "shard": None if shard is None else str(shard),
        "images": len(rows) // len(rewards),
        "failed": len(tally.failed),
        "reasons": dict(tally.reasons.most_common()),
        "rewards": described,
        "scores": [asdict(row) for row in rows],
    }
