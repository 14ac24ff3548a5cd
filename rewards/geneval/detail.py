"""What a person, or a table, may want to know of one judgement beside its value, as one line of text and back.

The line is a score's `detail`, for instance

    correct=no strict=no task=color_attr | expected red cup>=1, found 0 red; and 1 blue | found blue cup 0.97, dog 0.91

Its first part is for programs (`read_detail`): the official verdict, the training reward's strict one, and the task.
Then the reason of a score that is not full, if there is one, and the objects that counted, best first within a class;
a colour stands where it was looked at.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rewards.geneval.clauses import Request
from rewards.geneval.detections import Found
from rewards.geneval.rules import Verdict

_SHOWN = 10
_HEAD = re.compile(r"correct=(yes|no) strict=(yes|no) task=(.*?)(?: \| .*)?")
_WORDS = {True: "yes", False: "no"}


@dataclass(frozen=True)
class Detail:
    """The verdicts by the official rules and by the strict ones, and the prompt's task."""

    correct: bool
    strict: bool
    task: str


def write_detail(
    request: Request,
    verdict: Verdict,
    detected: Mapping[str, Sequence[Found]],
    colour_of: Callable[[Found, str], str | None],
) -> str:
    """The line of one image.

    Args:
        colour_of: the colour of an object of a class; None where nobody looked.
    """
    parts = [f"correct={_WORDS[verdict.correct]} strict={_WORDS[verdict.strict]} task={request.tag}"]
    if verdict.reason:
        parts.append(verdict.reason.replace("\n", "; "))
    parts.append(_list_objects(request, detected, colour_of))
    return " | ".join(parts)


def read_detail(detail: str) -> Detail | None:
    """The verdicts in a line of `write_detail`; None for any other text.

    >>> read_detail("correct=yes strict=no task=counting | found dog 0.97, dog 0.93")
    Detail(correct=True, strict=False, task='counting')
    """
    match = _HEAD.fullmatch(detail)
    return Detail(match[1] == "yes", match[2] == "yes", match[3]) if match else None


def _list_objects(
    request: Request, detected: Mapping[str, Sequence[Found]], colour_of: Callable[[Found, str], str | None]
) -> str:
    asked = [clause.name for clause in (*request.include, *request.exclude)]
    names = sorted(detected, key=lambda name: (name not in asked, -detected[name][0].score))
    words = [
        " ".join(filter(None, (colour_of(one, name), name, f"{one.score:.2f}")))
        for name in names
        for one in detected[name]
    ]
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return f"found {', '.join(words[:_SHOWN]) or 'nothing'}{more}"
