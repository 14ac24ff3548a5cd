"""What is left of a batch when its worker was lost: smaller parts, until the image that kills is alone."""

from collections.abc import Sequence
from typing import NamedTuple

from rewards.score import DEADLY, Score
from rewards.scoring.batch import Scored
from rewards.scoring.worker import WorkerLost


class Part(NamedTuple):
    """Some images of a batch (by their places), to be judged by some rewards; `killed` before, if it is one image."""

    keys: tuple[str, ...]
    places: Sequence[int]
    killed: bool = False


class Salvage:
    """The scores of a batch as they come in, and what is left of a part that its worker was lost with."""

    def __init__(self, keys: tuple[str, ...], count: int) -> None:
        unjudged = Score.failed("not judged")
        self.scored = Scored({key: [unjudged] * count for key in keys}, dict.fromkeys(keys, 0.0))
        self.count = count
        self.deaths = 0
        self.most = 2 + len(keys) - 1 + 3 * (count - 1).bit_length()  # finds two that kill, of any number of images

    def fill(self, part: Part, scored: Scored) -> None:
        for key in part.keys:
            for place, score in zip(part.places, scored.scores[key], strict=True):
                self.scored.scores[key][place] = score
            self.scored.seconds[key] += scored.seconds[key] * len(part.places) / self.count

    def cut(self, part: Part, lost: WorkerLost, deadline_s: float) -> list[Part]:
        """Smaller parts in the place of a lost one, the last being next: by reward, then by halves, then again."""
        self.deaths += 1
        if lost.key is None and not lost.hung:  # it died before it began, which is not this part's doing
            return [part]
        guilty = part._replace(keys=tuple(key for key in part.keys if lost.key in (key, None)))
        others = tuple(key for key in part.keys if key not in guilty.keys)
        rest = [part._replace(keys=others)] if others else []
        if lost.hung:
            self._fail(guilty, f"no scores within {deadline_s:g} s (reward_seconds), so the scoring process was ended")
            return rest
        if rest:
            return [guilty, *rest]
        if len(part.places) > 1:
            middle = len(part.places) // 2
            return [part._replace(places=part.places[middle:]), part._replace(places=part.places[:middle])]
        if not part.killed:
            return [part._replace(killed=True)]
        self._fail(part, f"{DEADLY} (a crash, a kill, or out of memory)")
        return []

    def give_up(self, parts: Sequence[Part]) -> None:
        for part in parts:
            self._fail(
                part, f"the scoring process died {self.deaths} times on this batch (a crash, a kill, or out of memory)"
            )

    def _fail(self, part: Part, reason: str) -> None:
        failed = Score.failed(reason)
        self.fill(part, Scored({key: [failed] * len(part.places) for key in part.keys}, dict.fromkeys(part.keys, 0.0)))
