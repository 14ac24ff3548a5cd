"""Cases of GenEval's rules worked out by hand, for a check on any machine: no weights, no picture, no network.

The 125 recorded verdicts of the original programs are in the tests; these few hold what is odd in the rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.errors import SetupError
from rewards.geneval.clauses import read_request
from rewards.geneval.detections import Found
from rewards.geneval.rules import judge
from rewards.prompt import Prompt

_EXACT = 1e-12


@dataclass(frozen=True)
class Case:
    """Objects by class, each its left side (all are 20 x 20 pixels on one line) and colour, and what they are worth."""

    what: str
    include: Sequence[Mapping[str, Any]]
    there: Mapping[str, Sequence[tuple[int, str]]]
    correct: bool
    strict: bool
    graded: float
    fixed: float
    exclude: Sequence[Mapping[str, Any]] = ()


_DOG, _CAT = {"class": "dog", "count": 1}, {"class": "cat", "count": 1}
_DOGS, _THREE = {"class": "dog", "count": 2}, {"class": "dog", "count": 3}
_RED, _LEFT = {**_DOG, "color": "red"}, {**_DOG, "position": ["left of", 0]}

CASES = (
    Case("one dog, found", (_DOG,), {"dog": [(0, "red")]}, True, True, 1, 1),
    Case("one dog, five found", (_DOG,), {"dog": [(0, "red")] * 5}, True, False, -3, 0),
    Case("two dogs, three found", (_DOGS,), {"dog": [(0, "red")] * 3}, False, False, 0.5, 0.5, exclude=(_THREE,)),
    Case("a red dog, found", (_RED,), {"dog": [(0, "red")]}, True, True, 1, 1),
    Case("a red dog, found blue", (_RED,), {"dog": [(0, "blue")]}, False, False, 0.5, 0.5),
    Case("a red dog, found two, the better red", (_RED,), {"dog": [(0, "red"), (0, "blue")]}, True, False, 0, 0),
    Case("a dog left of a cat", (_CAT, _LEFT), {"cat": [(80, "")], "dog": [(0, "")]}, True, True, 1, 1),
    Case("it is right of it", (_CAT, _LEFT), {"cat": [(0, "")], "dog": [(80, "")]}, False, False, 0.75, 2 / 3),
    Case("there is no cat", (_CAT, _LEFT), {"dog": [(0, "")]}, False, False, 1 / 3, 1 / 3),
)


def work_through(cases: Sequence[Case] = CASES) -> str:
    """Judge them all; in words how many there were.

    Raises:
        SetupError: names the case that came out otherwise.
    """
    for case in cases:
        colours = {
            Found((x, 40.0, x + 20.0, 60.0), 0.9): colour for found in case.there.values() for x, colour in found
        }
        objects = iter(colours)
        there = {name: [next(objects) for _ in found] for name, found in case.there.items()}
        spec = {"tag": "worked", "include": list(case.include), "exclude": list(case.exclude)}
        request = read_request(Prompt(case.what, spec))

        def classify(found: Sequence[Found], name: str, known: Mapping[Found, str] = colours) -> list[str]:
            return [known[one] for one in found]

        graded, fixed = (judge(request, there, classify, rules) for rules in ("graded", "fixed"))
        got = (graded.correct, graded.strict, graded.score, fixed.score)
        wanted = (case.correct, case.strict, case.graded, case.fixed)
        if any(abs(one - other) > _EXACT for one, other in zip(got, wanted, strict=True)):
            raise SetupError(
                f"GenEval's rules are broken here: {case.what}: correct, strict, graded, fixed are {got} and by hand "
                f"{wanted}. Install dgpo again."
            )
    return f"{len(cases)} cases by hand come out right"
