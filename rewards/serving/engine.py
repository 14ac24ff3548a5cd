"""The rewards that a server scores with: built once, described to clients, and run in this process or in workers."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

from PIL import Image as PIL
from PIL.Image import Image

from rewards.errors import suggestion
from rewards.pool import Scored, ScoringPool, score_batch
from rewards.prompt import Prompt
from rewards.registry import build
from rewards.remote.description import describe
from rewards.reward import DEADLINE_S
from rewards.scoring.questions import find_problems, verify
from rewards.serving.limits import Refusal
from rewards.spec import RewardSpec

WARM_UP = Prompt('a sign that says "OK"', {"include": [{"class": "cup", "count": 1}], "tag": "single_object"})


class Engine:
    """Scores batches by any of its rewards; use as a context manager.

    With workers=0, in this process, one batch at a time, in the thread that submits it. Otherwise each reward has so
    many processes of its own, that are replaced when they die, or take longer than `deadline_s` for a batch.
    """

    def __init__(
        self,
        specs: Sequence[RewardSpec],
        workers: int = 0,
        threads: int = 1,
        version: str = "",
        *,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.rewards = build(specs)
        self.workers = workers
        self.lanes = max(1, workers)
        self.descriptions = {key: describe(reward, version) for key, reward in self.rewards.items()}
        if workers:  # which have their own; here only prompts are checked
            for reward in self.rewards.values():
                reward.forget()
        pooled = specs if workers else ()
        self._pools = {spec.key: ScoringPool([spec], workers, threads, deadline_s=deadline_s) for spec in pooled}
        self._here = threading.Lock()
        self._open = ExitStack()

    def __enter__(self) -> "Engine":
        with ExitStack() as opened:
            for pool in self._pools.values():
                opened.enter_context(pool)
            self._open = opened.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.close()

    def submit(self, key: str, images: Sequence[Image], prompts: Sequence[Prompt]) -> "Future[Scored]":
        """Start to score; the future raises only what a broken reward raised."""
        if key in self._pools:
            return self._pools[key].submit(images, prompts)
        future: Future[Scored] = Future()
        with self._here:
            try:
                future.set_result(score_batch({key: self.rewards[key]}, images, prompts))
            except Exception as error:  # whoever waits for the future gets it
                future.set_exception(error)
        return future

    def drop(self) -> None:
        """End what is being scored in other processes."""
        for pool in self._pools.values():
            pool.drop()

    def find(self, wanted: str) -> str:
        """The key of a reward that is asked for by key, NAME@VERSION or NAME.

        Raises:
            Refusal: 404 not served here, 409 served in another version or with other options, or in several.
        """
        if wanted in self.rewards:
            return wanted
        name, _, rest = wanted.partition("[")[0].partition("@")
        same = [key for key, reward in self.rewards.items() if reward.spec.name == name]
        fitting = [key for key in same if "[" not in wanted and (not rest or key.partition("[")[0] == wanted)]
        if len(fitting) == 1:
            return fitting[0]
        if not same:
            raise Refusal(404, f'The reward "{wanted[:100]}" is not served here.{suggestion(wanted, self.rewards)}')
        raise Refusal(409, f'"{wanted[:100]}" is asked for, and served here is {", ".join(same)}; ask for that.')

    def check(self, key: str, prompts: Sequence[Prompt]) -> list[str | None]:
        """For each prompt, why the reward cannot judge any image of it; None where it can."""
        return find_problems({key: self.rewards[key]}, prompts)[key]

    def warm_up(self, key: str) -> str:
        """Score one grey picture, so that the first client does not wait for the weights; why it failed, or nothing.

        Raises:
            SetupError: the reward plainly judges nothing.
        """
        if key in self._pools:
            self._pools[key].verify()
        else:
            verify({key: self.rewards[key]})
        if self.check(key, [WARM_UP]) != [None]:
            return ""
        scored = self.submit(key, [PIL.new("RGB", (64, 64), (128, 128, 128))], [WARM_UP]).result()
        return scored.scores[key][0].reason
