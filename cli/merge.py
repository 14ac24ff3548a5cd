"""`dgpo merge`: the files of all jobs of `dgpo score --shard I/N` as one, or a sentence about what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.screen import say
from rewards.errors import UsageError


def merge(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="SHARD_FILE...", help="What `dgpo score --shard I/N --output FILE` wrote, of all N."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", metavar="FILE.csv|.parquet", help="What the command without --shard would write."),
    ],
) -> None:
    """Join the files of all shards of `dgpo score`; one that is missing, foreign or there twice is refused."""
    from benchmarks.harness.merge import join_rows, order_shards
    from benchmarks.harness.score_files import check_output, write_scores
    from benchmarks.harness.tally import Tally

    check_output(output)
    shards = order_shards(files)
    if output.resolve() in {path.resolve() for path in shards}:
        raise UsageError(f"{output} is one of the shards; choose another --output.")
    part = next(iter(shards.values()))
    tally = Tally(list(part.rewards))
    write_scores(output, tally.listen(join_rows(shards)))
    say(f"{len(shards)} shards, {part.of_entries} images, {len(tally.failed)} of them without a score")
    print(f"scores: {output}")
