"""`dgpo score --engine ray`: the images of a list scored by pools of actors on a Ray cluster, through Ray Data.

The list is dealt in portions. Rewards on a CPU read the portions that they score; before rewards on a GPU stand tasks
that read and decode on any machine's cores. Each kind of reward has a pool of actors, and a batch passes through all
of them. What is lost with an actor or a machine, Ray has done again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from types import TracebackType
from typing import Any

from benchmarks.harness.draft import Key
from benchmarks.harness.listing import Entry
from benchmarks.harness.ray_cluster import open_cluster
from benchmarks.harness.ray_work import Actor, Batch, Portion, Post, Told, as_table, identify, read, work_in
from benchmarks.harness.reading import divide
from benchmarks.harness.store import Row
from rewards.errors import SetupError, UsageError
from rewards.pool import RewardFacts
from rewards.prompt import Prompt
from rewards.scoring.allotment import allot, is_on_gpu
from rewards.scoring.worker import LOADING_S
from rewards.spec import RewardSpec

# Loads of a portion at most, that is about a thousand images; fewer where actors would be left without any.
LOADS = 64
PORTIONS_AN_ACTOR = 4
# Ray starts lost actors again without end. Where nothing moves for so many times what a batch may take, it gives up.
PATIENCE = 2


@dataclass(frozen=True)
class _Kind:
    """Rewards that are scored by the same actors."""

    post: Post
    actors: int
    gpus: int

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(spec.key for spec in self.post.specs)

    @property
    def needs(self) -> dict[str, float]:
        return {"num_cpus": self.post.threads, "num_gpus": self.gpus}


class RayPool:
    """Actors that score a list; use as a context manager. It is asked what a `ScoringPool` is.

    Args:
        workers: actors of each kind; of those with a GPU, no more than the cluster has GPUs.
        threads: cores of each.
        on_note: is told in sentences what the actors note, and which cluster it is.

    Raises:
        SetupError: Ray is not installed, the cluster does not answer, or has given up.
        UsageError: there are not as many cores.
    """

    def __init__(
        self,
        specs: Sequence[RewardSpec],
        workers: int,
        threads: int,
        *,
        deadline_s: float,
        on_note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.specs = tuple(specs)
        self.workers, self.threads, self.deadline_s = workers, threads, deadline_s
        self.on_note = on_note
        self._opened = ExitStack()
        self._ray: Any = None
        self._kinds: list[_Kind] = []
        self._asked: list[Any] = []
        self._facts: dict[str, RewardFacts] = {}

    def __enter__(self) -> RayPool:
        with ExitStack() as opening:
            self._ray, named = opening.enter_context(open_cluster(self._cores_here))
            self._kinds = self._allot()
            self._asked = [self._ray.remote(Actor).options(**kind.needs).remote(kind.post) for kind in self._kinds]
            self.on_note(f"Ray: {named}; {' and '.join(map(_describe, self._kinds))}")
            self._opened = opening.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.close()

    def wait_until_built(self) -> None:
        """As of a `ScoringPool`: SetupError where some cannot be built."""
        self._ask("wait_until_built", {kind.keys: () for kind in self._kinds})

    def find_problems(
        self, prompts: Sequence[Prompt], keys: Collection[str] | None = None
    ) -> Mapping[str, list[str | None]]:
        """As of a `ScoringPool`: by each reward, for each prompt, why no image of it can be judged."""
        wanted = {kind.keys: [key for key in kind.keys if keys is None or key in keys] for kind in self._kinds}
        return self._ask("find_problems", {kind: (tuple(prompts), some) for kind, some in wanted.items() if some})

    def facts(self) -> Mapping[str, RewardFacts]:
        """As of a `ScoringPool`; each actor is held to it."""
        if not self._facts:
            found = self._ask("facts", {kind.keys: () for kind in self._kinds})
            self._facts = {spec.key: found[spec.key] for spec in self.specs}
        return self._facts

    def score_images(
        self, entries: Sequence[Entry], known: Mapping[Key, Row] | None = None, *, in_order: bool = False
    ) -> Iterator[tuple[tuple[int, int], list[Row]]]:
        """The rows of every entry by every reward, batch after batch as they are done, each with its place.

        By their places they are what `score.score_images` gives.

        Args:
            known: rows from before, taken over where the file has not changed.
            in_order: whether batches are to come by their places.
        """
        facts = self.facts()
        for actor in self._asked:  # what they hold is for the pools
            self._ray.kill(actor)
        self._asked = []
        if not entries:  # an empty shard, and Ray Data takes no table of nothing
            return
        portions = self._deal(entries, known or {})
        with self._giving_up(), self._settings(in_order):
            data = self._ray.data.from_arrow([as_table(portion) for portion in portions])
            if self._kinds[0].gpus:
                data = data.map_batches(read, batch_size=1, batch_format="pyarrow", num_cpus=1)
            for kind in self._kinds:
                post = replace(kind.post, expected=identify(facts), last=kind is self._kinds[-1])
                data = data.map_batches(
                    Actor,
                    fn_constructor_args=(post,),
                    batch_size=1,
                    batch_format="pyarrow",
                    compute=self._ray.data.ActorPoolStrategy(size=kind.actors),
                    **kind.needs,
                )
            for table in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for batch in work_in(table):
                    assert isinstance(batch, Batch)
                    self._hear(batch.told)
                    yield batch.place, batch.rows

    def _cores_here(self) -> int:
        """Of a cluster on this machine: enough for what `_allot` will ask of it, and a task for each actor on a GPU."""
        kinds = allot(self.specs, self.workers, is_on_gpu)
        there = any(is_on_gpu(spec) for spec in self.specs)
        return len(kinds) * self.workers * self.threads + there * self.workers

    def _allot(self) -> list[_Kind]:
        """The kinds of actors, those with a GPU first, if the cluster has room for all of them."""
        total = self._ray.cluster_resources()
        cores, gpus = int(total.get("CPU", 0)), int(total.get("GPU", 0))
        keys = tuple(spec.key for spec in self.specs)
        kinds = []
        for specs, _ in allot(self.specs, self.workers, lambda spec: is_on_gpu(spec, lambda: gpus > 0)):
            there = is_on_gpu(specs[0], lambda: gpus > 0)
            if there and not gpus:
                raise UsageError(f"{specs[0].key} is to compute on a GPU, and the Ray cluster has none.")
            post = Post(specs, keys, self.threads, self.deadline_s, os.getcwd())
            kinds.append(_Kind(post, min(self.workers, gpus) if there else self.workers, int(there)))
        needed = sum(kind.actors for kind in kinds) * self.threads + any(kind.gpus for kind in kinds)
        if needed > cores:
            raise UsageError(
                f"--workers {self.workers} takes {needed} cores ({' and '.join(map(_describe, kinds))}), and the Ray "
                f"cluster has {cores}; give fewer --workers, or the cluster more machines."
            )
        return kinds

    def _deal(self, entries: Sequence[Entry], known: Mapping[Key, Row]) -> Iterator[Portion]:
        loads = divide(entries)
        size = max(1, min(LOADS, len(loads) // (PORTIONS_AN_ACTOR * self.workers)))
        keys = [spec.key for spec in self.specs]
        rest = iter(loads)
        number = 0
        while some := list(islice(rest, size)):
            names = {
                (entry.image.name, "" if entry.prompt is None else entry.prompt.id, entry.seed, key)
                for load in some
                for same in load
                for entry in same
                for key in keys
            }
            yield Portion(number, some, keys, {name: known[name] for name in names if name in known})
            number += 1

    def _ask(self, name: str, questions: Mapping[tuple[str, ...], tuple[Any, ...]]) -> dict[str, Any]:
        """The same method of an actor of each of these kinds, with its arguments; their answers by reward."""
        with self._giving_up():
            actors = [(actor, questions[kind.keys]) for kind, actor in self._some(questions)]
            answers = self._ray.get([actor.ask.remote(name, *what) for actor, what in actors])
        for _, told in answers:
            self._hear(told)
        return {key: value for answer, _ in answers for key, value in (answer or {}).items()}

    def _some(self, questions: Collection[tuple[str, ...]]) -> list[tuple[_Kind, Any]]:
        pairs = zip(self._kinds, self._asked, strict=True)
        return [(kind, actor) for kind, actor in pairs if kind.keys in questions]

    def _hear(self, told: Sequence[Told]) -> None:
        for one in told:
            if one.error is not None:
                raise one.error
            self.on_note(one.text)

    @contextmanager
    def _settings(self, in_order: bool) -> Iterator[None]:
        """Ray Data without bars of its own; each batch is a block, so that it is handed on when it is done."""
        context = self._ray.data.DataContext()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.target_max_block_size = 1
        context.execution_options.preserve_order = in_order
        context.execution_no_progress_timeout_s = PATIENCE * (LOADING_S + len(self.specs) * self.deadline_s)
        with self._ray.data.DataContext.current(context):
            yield

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        """What Ray raises when it does not try again; a mistake in our code, which it wraps, stays one."""
        try:
            yield
        except self._ray.exceptions.RayTaskError:
            raise
        except (self._ray.exceptions.RayError, self._ray.data.exceptions.ExecutionTimeoutError) as error:
            words = " ".join(str(error).split())[:300]
            raise SetupError(
                f"Ray has given up ({type(error).__name__}: {words}). What is finished is kept, and the same command "
                "goes on."
            ) from error


def _describe(kind: _Kind) -> str:
    actors = f"{kind.actors} actor{'s' * (kind.actors > 1)} of {kind.post.threads} core{'s' * (kind.post.threads > 1)}"
    return f"{actors}{' and a GPU' * bool(kind.gpus)} for {', '.join(kind.keys)}"
