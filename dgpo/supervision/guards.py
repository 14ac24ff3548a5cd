"""Guards: conditions under which a run is ended after an evaluation, such as `aesthetic<-0.1`.

NAME<NUMBER or NAME>NUMBER, where NAME is a reward that evaluations measure (its name, or its key where there are
variants) or a figure of their pictures. The number bounds the *change of the held-out mean since the evaluation of step
0*, in the raw unit: `aesthetic<-0.1` ends the run once aesthetic has fallen by more than 0.1, `near_duplicates>0.2`
once the share of near-identical pairs has risen by more than 0.2.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dgpo.supervision.hooks import Hook, Moment
from rewards.errors import UsageError, suggestion

if TYPE_CHECKING:
    from dgpo.trainer import Trainer

_FORM = re.compile(r"\s*(?P<name>[^<>]*[^<>\s])\s*(?P<sign>[<>])\s*(?P<bound>[^<>=\s]+)\s*")
EXAMPLE = "aesthetic<-0.1 (stop once aesthetic has fallen by more than 0.1 since step 0)"

Lines = Sequence[Mapping[str, Any]]


class GuardTripped(Exception):
    """A guard ended the run, which is saved; the message says which and by how much."""


@dataclass(frozen=True)
class Guard:
    """One condition: `name` changed by less (`below`) or more than `bound` since step 0."""

    name: str
    below: bool
    bound: float

    def __str__(self) -> str:
        return f"{self.name}{'<' if self.below else '>'}{self.bound:g}"

    def trips(self, change: float) -> bool:
        return change < self.bound if self.below else change > self.bound


def parse_guard(text: str) -> Guard:
    """The guard that a text means; UsageError if it means none.

    >>> parse_guard("aesthetic < -0.1")
    Guard(name='aesthetic', below=True, bound=-0.1)
    """
    match = _FORM.fullmatch(text)
    bound = _number(match["bound"]) if match else None
    if match is None or bound is None:
        raise UsageError(f'"{text}" is no guard. Write NAME<NUMBER or NAME>NUMBER, for instance {EXAMPLE}.')
    guard = Guard(match["name"], match["sign"] == "<", bound)
    if guard.trips(0.0):
        raise UsageError(
            f'"{text}" is already so at step 0, where nothing has changed: the number is the change since then, for'
            f" instance {EXAMPLE}."
        )
    return guard


def check_names(guards: Sequence[Guard], keys: Sequence[str], figures: Collection[str]) -> None:
    """UsageError for a guard that names nothing, or more than one thing, of what the evaluations will measure."""
    for guard in guards:
        meant = _meant(guard.name, [*keys, *figures])
        if not meant:
            choices = {*(key.partition("@")[0] for key in keys), *figures}
            raise UsageError(
                f'The guard "{guard}" names nothing that the evaluations measure.{suggestion(guard.name, choices)}'
                " Another reward is measured with --set evaluation.rewards='[NAME]'."
            )
        if len(meant) > 1:
            raise UsageError(f'The guard "{guard}" may mean {" or ".join(meant)}; name one of them in full.')


def tripped(guards: Sequence[Guard], lines: Lines) -> list[str]:
    """A sentence for each guard that the latest evaluation in these lines of metrics.jsonl trips.

    A mean that does not exist, as nothing could be scored, trips nothing; see `unmeasured`.
    """
    sentences = []
    for guard in guards:
        (_, first), (step, last) = _value(_start(lines), guard.name), _value(lines, guard.name)
        if first is not None and last is not None and guard.trips(last - first):
            sentences.append(
                f'The guard "{guard}" ended the run: {guard.name} went from {first:.4g} at step 0 to {last:.4g} at step'
                f" {step}, a change of {last - first:+.4g}."
            )
    return sentences


def unmeasured(guards: Sequence[Guard], lines: Lines) -> list[Guard]:
    """Those guards that the latest evaluation gives no number for."""
    return [guard for guard in guards if _value(lines, guard.name)[1] is None]


def baseless(guards: Sequence[Guard], lines: Lines) -> list[Guard]:
    """Those guards that the evaluation of step 0 gives no number for, so that no change is ever known."""
    return unmeasured(guards, _start(lines))


def _start(lines: Lines) -> Lines:
    return [line for line in lines if line["step"] == 0]


def _value(lines: Lines, name: str) -> tuple[int, float | None]:
    """Step and value of what a guard names, in the latest line that holds an evaluation."""
    for line in reversed(lines):
        if "evaluation" in line:
            found = {key: value["mean"] for key, value in line["evaluation"].items()} | line.get("pictures", {})
            meant = _meant(name, list(found))
            return line["step"], found[meant[0]] if len(meant) == 1 else None
    return 0, None


def _meant(name: str, names: Sequence[str]) -> list[str]:
    """What a name stands for: itself, or the rewards of that name."""
    return [name] if name in names else [one for one in names if one.partition("@")[0] == name]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


class GuardHook(Hook):
    """Ends the run where the latest evaluation trips a guard; what has been learned until now is saved first."""

    def __init__(self, guards: Sequence[Guard]) -> None:
        self.guards = guards

    def begin(self, training: "Trainer", moment: Moment) -> None:
        """As the last evaluation left it; at step 0 there is no change to go by."""
        if moment.step > 0:
            self.ended(training, moment)

    def ended(self, training: "Trainer", moment: Moment) -> None:
        lines = training.run.read_metrics() if self.guards and training.ranks.main else []
        found = [functions(self.guards, lines) for functions in (tripped, unmeasured, baseless)]
        reasons, silent, blind = training.ranks.gather([found])[0]
        if blind:
            raise UsageError(
                f'The guard "{blind[0]}" is about the change since step 0, when this run did not measure it. Take it'
                " off, or start over with --fresh."
            )
        training.note(*(f'the guard "{guard}" found no number to go by' for guard in silent))
        if reasons:
            if not moment.saves:
                training.save()
            training.state.finish()
            raise GuardTripped(" ".join(reasons))
