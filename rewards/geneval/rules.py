"""What the objects found in a picture are worth: the official verdict, the published training reward, and ours.

Sources: `evaluate` of evaluation/evaluate_images.py, github.com/djghosh13/geneval at
af4902f24d3ca90ebbb446dd9891a59e0f82725f (`evaluate`); `evaluate_reward` of flow_grpo's reward-server, taken over by
DiffusionNFT and by the authors of DGPO (`grade`). Reasons are worded as there; where several relations hold they are
sorted, which is the only liberty taken.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rewards.geneval.clauses import Clause, Request
from rewards.geneval.geometry import relative_position
from rewards.geneval.objects import COLOURS

if TYPE_CHECKING:
    from rewards.geneval.detections import Found

Group: TypeAlias = Sequence["Found"]
Detected: TypeAlias = Mapping[str, Group]
Classify: TypeAlias = Callable[[Group, str], Sequence[str]]  # the colours of these objects of one class

RULES = ("graded", "official", "fixed")


@dataclass(frozen=True)
class Outcome:
    """What one set of rules makes of a picture.

    `passed` says that no clause failed. `score` is 1 or 0 by the official rules, and the mean of `marks` by the graded
    ones. `reason` has one line a failure, none if all is well. `colours` holds the colours seen, for each clause whose
    objects were looked at.
    """

    passed: bool
    score: float
    reason: str
    colours: tuple[tuple[str, ...], ...] = ()
    marks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The judgement of one picture.

    `correct` is the official verdict. `score` is by the rules that were asked for, and so are `reason` and `colours`.
    `strict` says that the counts are exact and all else is right: the published `strict_correct`, or, by the fixed
    rules, that and nothing excluded is there.
    """

    correct: bool
    score: float
    strict: bool
    reason: str
    colours: tuple[tuple[str, ...], ...]


def judge(request: Request, detected: Detected, classify: Classify, rules: str = "graded") -> Verdict:
    """The verdict by one of `RULES`; the colour of an object is asked for at most once.

    `detected` holds the objects of each class, best first (`detections.keep_objects`); `classify` knows the picture.
    """
    if rules not in RULES:
        raise ValueError(f'there are no rules "{rules}"; there are {", ".join(RULES)}')
    classify = _told_once(classify)
    official = evaluate(request, detected, classify)
    graded = (grade_fixed if rules == "fixed" else grade)(request, detected, classify)
    chosen = {"official": official, "graded": graded, "fixed": graded}[rules]
    return Verdict(official.passed, chosen.score, graded.passed, chosen.reason, chosen.colours)


def evaluate(request: Request, detected: Detected, classify: Classify) -> Outcome:
    """The official verdict: of every clause enough objects, and the best `count` of them as asked.

    Surplus objects matter only to `exclude`. A relation must hold between all pairs of a clause's objects and those of
    its target, and cannot hold if the target's own clause failed.
    """
    notes = _Notes()
    for clause in request.include:
        found = detected.get(clause.name, ())[: clause.count]
        if len(found) < clause.count:
            notes.fail(f"expected {clause.name}>={clause.count}, found {len(found)}")
            notes.groups.append(None)
            continue
        failed = False
        if clause.colour:
            right, failure = _look(clause, found, classify, notes)
            failed = right < clause.count
            if failed:
                notes.fail(failure)
        if clause.relation and not failed:
            failed = notes.fail(_misplaced(clause, found, notes.groups))
        notes.groups.append(None if failed else found)
    for clause in request.exclude:
        notes.fail(_surplus(clause, detected))
    return Outcome(not notes.reasons, float(not notes.reasons), notes.text, tuple(notes.colours))


def grade(request: Request, detected: Detected, classify: Classify) -> Outcome:
    """The published training reward: the mean of marks for count, colour and position, with all its oddities.

    Each clause looks at *all* objects of its class and gives the mark 1 - |count - found| / count, which is negative
    beyond twice the count. If the count is wrong and a colour or a position was asked, one mark 0 follows and nothing
    else is looked at. Otherwise the colour is marked like the count and must be exact; then, if nothing failed, the
    position: a target that failed gives 0; a wrong pair gives 0 *and then 1*; right pairs give 1. `exclude` is ignored.
    So right counts in the wrong relation are worth 0.75. No mark at all is worth 0.
    """
    notes = _Notes()
    for clause in request.include:
        found = detected.get(clause.name, ())
        notes.marks.append(_closeness(clause.count, len(found)))
        failed = len(found) != clause.count
        if failed:
            notes.fail(f"expected {clause.name}=={clause.count}, found {len(found)}")
            if clause.colour or clause.relation:
                notes.marks.append(0.0)
        elif clause.colour:
            right, failure = _look(clause, found, classify, notes)
            notes.marks.append(_closeness(clause.count, right))
            failed = right != clause.count
            if failed:
                notes.fail(failure)
        if clause.relation and not failed:
            failed = notes.fail(_misplaced(clause, found, notes.groups))
            if failed:
                notes.marks.append(0.0)
            if notes.groups[_target(clause)] is not None:
                notes.marks.append(1.0)
        notes.groups.append(None if failed else found)
    return notes.graded(empty=0.0)


def grade_fixed(request: Request, detected: Detected, classify: Classify) -> Outcome:
    """The training reward without the oddities, in [0, 1]; ours, not published.

    Each clause gives one mark for the count, one for the colour if asked, one for the position if asked, so that the
    number of marks does not depend on the picture:

    - count: 1 - |count - found| / count, at least 0;
    - colour: the same with the number of objects in that colour; 0 if the count is wrong;
    - position: 1 if the relation holds between all pairs, else 0; 0 if count or colour is wrong or the target failed.

    `exclude` counts: too many objects of a class that no clause asks for add one mark 0. (Surplus objects of a class
    that is asked for have lowered its count already.) An excluded object that is absent earns nothing, as otherwise an
    empty picture would; a prompt that only excludes is worth 1 if it is obeyed.
    """
    notes = _Notes()
    for clause in request.include:
        found = detected.get(clause.name, ())
        failed = len(found) != clause.count
        notes.marks.append(max(0.0, _closeness(clause.count, len(found))))
        if failed:
            notes.fail(f"expected {clause.name}=={clause.count}, found {len(found)}")
        if clause.colour and failed:
            notes.marks.append(0.0)
        elif clause.colour:
            right, failure = _look(clause, found, classify, notes)
            notes.marks.append(max(0.0, _closeness(clause.count, right)))
            failed = right != clause.count
            if failed:
                notes.fail(failure)
        if clause.relation:
            failed = failed or notes.fail(_misplaced(clause, found, notes.groups))
            notes.marks.append(0.0 if failed else 1.0)
        notes.groups.append(None if failed else found)
    asked = {clause.name for clause in request.include}
    for clause in request.exclude:
        if notes.fail(_surplus(clause, detected)) and clause.name not in asked:
            notes.marks.append(0.0)
    return notes.graded(empty=1.0)


class _Notes:
    """What is written down while the clauses are gone through."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.colours: list[tuple[str, ...]] = []
        self.marks: list[float] = []
        self.groups: list[Group | None] = []  # the objects of each clause, None if it failed

    def fail(self, reason: str) -> bool:
        """Note a failure; an empty reason is none."""
        if reason:
            self.reasons.append(reason)
        return bool(reason)

    @property
    def text(self) -> str:
        return "\n".join(self.reasons)

    def graded(self, empty: float) -> Outcome:
        score = sum(self.marks) / len(self.marks) if self.marks else empty
        return Outcome(not self.reasons, score, self.text, tuple(self.colours), tuple(self.marks))


def _closeness(wanted: int, found: int) -> float:
    return 1 - abs(wanted - found) / wanted


def _look(clause: Clause, found: Group, classify: Classify, notes: _Notes) -> tuple[int, str]:
    """How many of `found` have the clause's colour, and what to say if they are too few."""
    seen = tuple(classify(found, clause.name))
    notes.colours.append(seen)
    right = seen.count(clause.colour)
    listed = ", ".join(f"{seen.count(colour)} {colour}" for colour in COLOURS if colour in seen)
    return right, f"expected {clause.words}>={clause.count}, found {right} {clause.colour}; and {listed}"


def _misplaced(clause: Clause, found: Group, groups: Sequence[Group | None]) -> str:
    """Why the clause's relation does not hold between `found` and its target; empty if it does."""
    targets = groups[_target(clause)]
    if targets is None:
        return f"no target for {clause.name} to be {clause.relation}"
    for one in found:
        for target in targets:
            relations = relative_position(one.box, target.box)
            if clause.relation not in relations:
                seen = " and ".join(sorted(relations))
                return f"expected {clause.name} {clause.relation} target, found {seen} target"
    return ""


def _surplus(clause: Clause, detected: Detected) -> str:
    found = len(detected.get(clause.name, ()))
    return f"expected {clause.name}<{clause.count}, found {found}" if found >= clause.count else ""


def _target(clause: Clause) -> int:
    assert clause.target is not None, "a relation has a target: see read_request"
    return clause.target


def _told_once(classify: Classify) -> Classify:
    """`classify`, asked about each object at most once; official and graded rules look at the same ones."""
    known: dict[tuple[int, str], str] = {}

    def tell(found: Group, name: str) -> list[str]:
        new = [one for one in found if (id(one), name) not in known]
        if new:
            known.update(zip([(id(one), name) for one in new], classify(new, name), strict=True))
        return [known[id(one), name] for one in found]

    return tell
