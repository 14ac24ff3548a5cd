"""A run's canaries: their first scores are kept with the run, and later ones must agree with them.

RUN/canaries holds the pictures (1.png, 2.png, ...) and canaries.json: their prompts, first scores, and what the run's
rewards recorded of themselves then. A resumed run is so compared with its own beginning.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from dgpo.parallel import Ranks
from dgpo.run import Run, read_facts
from dgpo.sections import Watch
from dgpo.supervision.hooks import Hook, Moment, due
from rewards.errors import SetupError
from rewards.files import read_json, write_json
from rewards.images import read_image
from rewards.prompt import Prompt
from rewards.spec import RewardSpec
from rewards.trust.canary import (
    Canary,
    Change,
    Scores,
    Submit,
    draw_canaries,
    find_changes,
    score_canaries,
    score_in_every_way,
    tells_apart,
    tolerance_of,
    values,
)

if TYPE_CHECKING:
    from dgpo.trainer import Trainer


class _Kept(NamedTuple):
    """What the run folder keeps of its canaries."""

    canaries: list[Canary]
    scores: dict[str, list[float | None]]
    facts: Mapping[str, Any]


class _Seen(NamedTuple):
    """What one rank's scoring processes said: the scores, and what is wrong with those who gave them."""

    scores: Scores
    problems: list[str]


class Canaries(Hook):
    """Every rank holds one and asks its own scoring processes; all come to the same verdict."""

    def __init__(
        self,
        settings: Watch,
        specs: Sequence[RewardSpec],
        submit: Submit,
        *,
        prompts: Sequence[Prompt],
        run: Run,
        ranks: Ranks,
    ) -> None:
        self.settings, self.specs, self.submit, self.prompts = settings, specs, submit, prompts
        self.run, self.ranks = run, ranks
        self.folder = run.folder / "canaries"
        self.canaries: list[Canary] = []
        self.first: dict[str, list[float | None]] = {}
        self.facts: Mapping[str, Any] = {}
        self.agreed: int | None = None
        self._known: list[Change] = []

    @property
    def alive(self) -> list[str]:
        """The rewards that gave two canaries different scores."""
        return [key for key, row in self.first.items() if tells_apart(row)]

    def begin(self, training: "Trainer", moment: Moment) -> None:
        if not moment.last:
            training.note(*self.meet(moment.step))

    def ended(self, training: "Trainer", moment: Moment) -> None:
        if due(moment.step, self.settings.canary_every) and not moment.saves:
            training.note(*self.look(moment.step))

    def saving(self, training: "Trainer") -> None:
        """No checkpoint holds what changed scores have taught."""
        training.note(*self.look(training.progress.step))

    def meet(self, step: int) -> list[str]:
        """Score the canaries in every way before anything is drawn; returns what the user should know.

        Raises:
            SetupError: a reward judges none of them, or depends on order or batch, or has changed since the run began.
        """
        if self.settings.canaries == 0:
            return []
        self._find()
        ranks = self._ask(self._score_in_every_way)
        for seen in ranks:
            if seen.problems:
                raise SetupError("\n".join(seen.problems))
        self._refuse_silence(ranks)
        self._keep(ranks[0].scores)
        return self._compare(ranks, step)

    def look(self, step: int) -> list[str]:
        """Score the canaries again; returns what the user should know.

        Raises:
            SetupError: one has another score than at the start of the run, and `drift` is `stop`.
        """
        if self.settings.canaries == 0:
            return []
        ranks = self._ask(lambda: _Seen(score_canaries(self.canaries, self.submit), []))
        return [*self._tell_failures(ranks), *self._compare(ranks, step)]

    def forget(self, key: str) -> None:
        """Take no scores of a reward for right that could not tell the canaries apart: mended, it gives others."""
        if key in self.first and key not in self.alive:
            del self.first[key]
            self._write()

    def _ask(self, score: Callable[[], _Seen]) -> list[_Seen]:
        """What every rank saw; a reward that says it can go on no more is among its problems."""
        try:
            seen = score()
        except SetupError as error:
            seen = _Seen({}, [str(error)])
        return self.ranks.gather([seen])

    def _find(self) -> None:
        """Those of the run; drawn only once, since another release of a library might draw them differently."""
        found = (self._read() or self._draw()) if self.ranks.main else None
        self.canaries, self.first, self.facts = self.ranks.gather([found])[0]

    def _draw(self) -> _Kept:
        return _Kept(draw_canaries(self.prompts, self.settings.canaries), {}, self._facts_now())

    def _read(self) -> _Kept | None:
        path = self.folder / "canaries.json"
        if not path.exists():
            return None
        try:
            kept = read_json(path)
            canaries = [
                Canary(self._load_picture(place), Prompt(fields.pop("prompt"), fields))
                for place, fields in enumerate(kept["prompts"])
            ]
            return _Kept(canaries, kept["scores"], kept["reward_provenance"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SetupError(
                f"{self.folder} cannot be read ({error}). Delete it to take the rewards' scores of now for right ones."
            ) from None

    def _load_picture(self, place: int) -> Image.Image:
        found = read_image(Path(self._picture(place)))
        if found.image is None:
            raise ValueError(found.problem)
        return found.image.convert("RGB")

    def _picture(self, place: int) -> str:
        return str(self.folder / f"{place + 1}.png")

    def _keep(self, scores: Scores) -> None:
        """Add first scores that are new, and write them down."""
        made = values(scores)
        before = self.first
        self.first = {
            key: [new if old is None else old for old, new in zip(before.get(key, row), row, strict=True)]
            for key, row in made.items()
        }
        if self.first != before:
            self._write()

    def _write(self) -> None:
        """The pictures before the file that tells of them; by the main rank."""
        if not self.ranks.main:
            return
        self.folder.mkdir(exist_ok=True)
        for place, canary in enumerate(self.canaries):
            canary.image.save(self._picture(place))
        kept = {
            "prompts": [{"prompt": canary.prompt.text, **canary.prompt.spec} for canary in self.canaries],
            "scores": self.first,
            "reward_provenance": self.facts,
        }
        write_json(self.folder / "canaries.json", kept)

    def _score_in_every_way(self) -> _Seen:
        alone, others = score_in_every_way(self.canaries, self.submit)
        problems = {}
        for how, scores in others.items():
            for change in find_changes(values(alone), scores, self._tolerances):
                problems.setdefault(change.key, self._describe_dependence(change, how))
        return _Seen(alone, list(problems.values()))

    def _describe_dependence(self, change: Change, how: str) -> str:
        return (
            f"{change.key} scores {self._name(change.place)} {change.before:.6g} by itself and {change.after:.6g} "
            f"{how}: it mixes up images or prompts, or its scores depend on what else is in the batch, so nothing "
            "was drawn or learned. An image's score must be that of this image and its own prompt, in the order they "
            "came in. If its scores are noisy by nature, allow for that with --set watch.tolerance=0.05."
        )

    def _refuse_silence(self, ranks: Sequence[_Seen]) -> None:
        for seen in ranks:
            for key, row in seen.scores.items():
                if all(score.value is None for score in row):
                    raise SetupError(
                        f"{key} could score none of {len(row)} pictures that it was shown before anything is drawn "
                        f"({self.folder.parent} keeps what there is). The first reason: {row[0].reason}. "
                        "Mend the cause and give the same command to go on."
                    )

    def _tell_failures(self, ranks: Sequence[_Seen]) -> list[str]:
        """They are no change; whether the run goes on is for its own images to decide, by max_failed."""
        problems = [problem for seen in ranks for problem in seen.problems]
        failed = (
            f"{key} could not score {self._name(place)}: {score.reason}"
            for seen in ranks
            for key, row in seen.scores.items()
            for place, score in enumerate(row)
            if score.value is None
        )
        return [*problems, *failed][:1]

    def _compare(self, ranks: Sequence[_Seen], step: int) -> list[str]:
        changes = [change for seen in ranks for change in find_changes(self.first, seen.scores, self._tolerances)]
        if not changes:
            self.agreed = step
            return []
        sentence = self._describe_drift(changes)
        if self.settings.drift == "warn":
            known, self._known = self._known, changes
            return [] if changes == known else [sentence]
        if self.agreed is None:
            raise SetupError(f"{sentence} Nothing was drawn or learned. {self._advise()}")
        raise SetupError(
            f"{sentence} What was learned after iteration {self.agreed}, when they last agreed, may come from wrong "
            f"scores and was not saved: the run stands at its last checkpoint. {self._advise()}"
        )

    def _describe_drift(self, changes: Sequence[Change]) -> str:
        first = changes[0]
        more = f" (and {len(changes) - 1} more canaries or rewards differ)" if len(changes) > 1 else ""
        return (
            f"{first.key} no longer scores as it did at the start of this run: {self._name(first.place)} had "
            f"{first.before:.6g} and has {first.after:.6g} now{more}. {self._compare_facts(first.key)}"
        )

    def _compare_facts(self, key: str) -> str:
        """What the reward recorded of itself then and now; else where to look."""
        old, new = self.facts.get(key, {}), self._facts_now().get(key, {})
        differing = [f"{name} was {old.get(name)} and is {new.get(name)}" for name in new if old.get(name) != new[name]]
        if differing:
            return f"Of this reward {'; '.join(differing)}."
        return "Was its server restarted with other weights, or one of its files or libraries changed?"

    def _advise(self) -> str:
        return (
            "Mend the reward and give the same command to go on; to go on with its new scores, delete "
            f"{self.folder} first."
        )

    def _name(self, place: int) -> str:
        return f'canary {place + 1} ({self._picture(place)}, "{self.canaries[place].prompt.text}")'

    def _facts_now(self) -> Mapping[str, Any]:
        return read_facts(self.run.folder).get("reward_provenance", {})

    @property
    def _tolerances(self) -> dict[str, float]:
        return {spec.key: self.settings.tolerance or tolerance_of(spec) for spec in self.specs}
