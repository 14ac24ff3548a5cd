"""`dgpo score --shard I/N`: one of N jobs, each of which scores its own part of the same images.

Parts are ranges of the images in their order, so that all of them behind each other are the whole. Beside a part's
scores lies a record, FILE.shard.json, of what it is a part of; by it `dgpo merge` knows what is missing or foreign.
"""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

from benchmarks.harness.listing import Entry, group_by_image
from benchmarks.harness.record import describe_reward
from rewards.errors import UsageError
from rewards.files import read_json, sha256, sha256_of, write_json
from rewards.pool import RewardFacts

RECORD_ENDING = ".shard.json"
SCHEMA = 1
# A tar or table stays whole unless it is so many times as large as a part should be.
LARGE = 1.5


@dataclass(frozen=True)
class Shard:
    """The part `number` (from 1) of `count`."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_shard(text: str) -> Shard:
    """I/N as a shard; UsageError for anything else, and for a job array that counts from 0."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
    if not found:
        raise UsageError(f'--shard takes I/N, for instance 3/8 for the third of eight parts; got "{text}".')
    number, count = map(int, found.groups())
    if not 1 <= number <= count:
        raise UsageError(
            f"--shard {text}: parts are numbered from 1 to N, as a job array with --array=1-{count or 8} numbers its"
            ' jobs; in one that begins with 0, say --shard "$((ID + 1))/N".'
        )
    return Shard(number, count)


def cut(entries: Sequence[Entry], shard: Shard) -> list[Entry]:
    """The entries of one shard, which may be none; those of all shards, in order, are those of `group_by_image`.

    An image under several prompts stays in one shard. So does a tar or a table, where there are at least as many as
    shards and it is not `LARGE`.
    """
    images = group_by_image(entries)
    sizes = [len(list(row)) for _, row in groupby(images, key=lambda same: same[0].image.name.partition("#")[0])]
    first, last = (_bound(sizes, number, shard.count) for number in (shard.number - 1, shard.number))
    return [entry for same in images[first:last] for entry in same]


def _bound(sizes: Sequence[int], number: int, count: int) -> int:
    """How many images the first `number` of `count` parts have: the equal share, or the end of a file that is near."""
    ends = list(accumulate(sizes))
    total = ends[-1] if ends else 0
    share = total * number // count
    place = bisect_right(ends, share)
    if len(sizes) < count or place == len(sizes) or sizes[place] * count > LARGE * total:
        return share
    start, end = ends[place] - sizes[place], ends[place]
    return start if share - start < end - share else end


def fingerprint_of(entries: Sequence[Entry]) -> str:
    """Names, prompts and seeds of all images, as one hash, which is the same in every job of an array."""
    lines = (
        json.dumps([entry.image.name, entry.run, entry.prompt and entry.prompt.id, entry.seed])
        for same in group_by_image(entries)
        for entry in same
    )
    return sha256_of("\n".join(lines))


@dataclass(frozen=True)
class Part:
    """What a file of scores is a part of."""

    shard: Shard
    entries: int
    """Images under their prompts in this part, and in all of them."""
    of_entries: int
    inputs: str
    """`fingerprint_of` all entries."""
    rewards: Mapping[str, Any]
    """By their keys, as run.json of an evaluation describes them."""

    def write(self, scores: Path) -> None:
        """Put the record beside a file of scores that has just been written."""
        record = {
            "schema": SCHEMA,
            "shard": self.shard.number,
            "of": self.shard.count,
            "entries": self.entries,
            "of_entries": self.of_entries,
            "inputs": self.inputs,
            "rewards": self.rewards,
            "scores": sha256(scores),
        }
        write_json(record_path(scores), json.loads(json.dumps(record, default=str)))


def describe_part(
    shard: Shard, part: Sequence[Entry], entries: Sequence[Entry], rewards: Mapping[str, RewardFacts]
) -> Part:
    described = {key: describe_reward(reward) for key, reward in rewards.items()}
    return Part(shard, len(part), len(entries), fingerprint_of(entries), described)


def record_path(scores: Path) -> Path:
    scores = Path(os.path.realpath(scores))  # a link is followed where scores are written
    return scores.with_name(scores.name + RECORD_ENDING)


def read_part(scores: Path) -> Part:
    """What a file of scores is a part of.

    Raises:
        UsageError: nobody says so, or the file is not the one that its record was written for.
    """
    path = record_path(scores)
    again = "give its `dgpo score --shard I/N` again, which makes only what is missing"
    if not scores.is_file():
        raise UsageError(f"There is no file {scores}; name files that `dgpo score --shard I/N` has written.")
    try:
        record = read_json(path)
        if record["schema"] > SCHEMA:
            raise UsageError(f"{path} was written by a newer version of dgpo; update this one.")
        part = Part(
            Shard(record["shard"], record["of"]),
            record["entries"],
            record["of_entries"],
            record["inputs"],
            dict(record["rewards"]),
        )
        digest = record["scores"]
    except FileNotFoundError:
        raise UsageError(
            f"{scores} is no shard: {path.name}, which `dgpo score --shard I/N` writes beside it, is not there. Move"
            f" the two together, or {again}."
        ) from None
    except (ValueError, TypeError, LookupError) as error:
        raise UsageError(f"{path} is damaged ({error}); {again}.") from None
    if sha256(scores) != digest:
        raise UsageError(f"{scores} is not the file that {path.name} was written for: it was changed; {again}.")
    return part
