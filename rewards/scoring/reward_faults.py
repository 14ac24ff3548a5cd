"""What is said when the code of a reward does what none may: the reward, the fault, its author's lines."""

import traceback
from pathlib import Path

from rewards.errors import SetupError
from rewards.escape import without_addresses

SHOWN_FRAMES = 3


class RewardBroken(SetupError):
    """A reward has a mistake in its code; no other image changes that, and its author can mend it."""


def broke_off(key: str, error: BaseException) -> RewardBroken:
    """For an exception that the caller has caught from a reward's code: what it was and where, shortened."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)[1:] if not _plumbing(frame)]
    what = without_addresses(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    if isinstance(error, SystemExit):
        what = f"it called sys.exit({error.code!r})"
    place = f" ({_place(frames[-1])})" if frames else ""
    lines = without_addresses("".join(traceback.format_list(frames[-SHOWN_FRAMES:])).rstrip())
    return RewardBroken(f"The reward {key} broke off: {what}{place}. Its author can mend that:\n{lines}")


def returned_wrong(key: str, what: str) -> RewardBroken:
    """For what a reward returned, when that is no list of scores."""
    return RewardBroken(
        f"The reward {key} returned {without_addresses(what)}. `score` returns a list with one Score for each image, "
        "in order, as in: return [Score(0.5) for image in images]. Plain numbers are taken too."
    )


def answered_wrong(key: str, method: str, answer: object, rule: str) -> RewardBroken:
    """For what another method of a reward returned; `rule` says what it should."""
    return RewardBroken(
        f"The reward {key} returned {without_addresses(f'{answer!r:.80}')} ({type(answer).__name__}) from "
        f"`{method}`, {rule}."
    )


def place_in(error: BaseException, module: str) -> str:
    """Where in that file an exception came from: ` (file.py, line 3)`; nothing if not from there."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == module]
    return f" ({_place(frames[-1])})" if frames else ""


def _plumbing(frame: traceback.FrameSummary) -> bool:
    """Python's own importing; the first frame, where it was caught, is left out too."""
    return frame.filename.startswith("<frozen importlib")


def _place(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).name}, line {frame.lineno}"
