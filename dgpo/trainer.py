"""The training loop: draw, score, learn, record; everything that supervises is a hook.

Shapes: R rewards, K prompts per iteration, G images of each.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from dgpo.advantage import mix_rewards
from dgpo.algorithms.algorithm import Algorithm
from dgpo.checkpoint import Progress
from dgpo.config import Config
from dgpo.optimizer import NotFinite, Optimizer
from dgpo.parallel import Ranks
from dgpo.plan import passes_per_image
from dgpo.policy import Policy
from dgpo.run import Run
from dgpo.scores import CannotGoOn, collect_drawn, describe_parts, describe_scores, scoring_seconds
from dgpo.source import Drawn, Source
from dgpo.state import State
from dgpo.supervision.hooks import Hook, Moment, Scores, due
from rewards.errors import SetupError
from rewards.registry import card_of
from rewards.spec import RewardSpec


class Interrupted(Exception):
    """The run was asked to stop; it saved and can be continued by the same command."""


class Trainer:
    """Trains one policy in one run folder; every rank holds one.

    `hooks` are asked in their order at every moment (`supervision.hooks`). `on_step` gets an iteration's metrics on the
    main rank, `on_note` a sentence now and then on every rank.
    """

    def __init__(
        self,
        config: Config,
        *,
        policy: Policy,
        algorithm: Algorithm,
        source: Source,
        specs: Sequence[RewardSpec],
        run: Run,
        ranks: Ranks,
        hooks: Sequence[Hook],
        on_step: Callable[[dict[str, Any]], None] = lambda metrics: None,
        on_note: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.config, self.policy, self.algorithm, self.source = config, policy, algorithm, source
        self.specs, self.run, self.ranks, self.hooks = specs, run, ranks, hooks
        self.on_step, self.on_note = on_step, on_note
        self.state = State(config, policy, run, ranks, on_note)

    @property
    def progress(self) -> Progress:
        return self.state.progress

    @property
    def optimizer(self) -> Optimizer:
        return self.state.optimizer

    def train(self, *, resume: bool, stop_asked: Callable[[], bool] = lambda: False) -> None:
        """Iterate to `config.steps`, from the last whole checkpoint if `resume`.

        Raises:
            Interrupted: `stop_asked` said so on some rank; the run is saved.
            GuardTripped: a guard ended the run, which is saved.
            SetupError, UsageError: it cannot go on; the sentence says whether it is saved and how to mend that.
        """
        if resume:
            self.state.restore()
        try:
            self._go_on(stop_asked)
        except KeyboardInterrupt:  # at once, without saving
            raise
        except BaseException:
            self.state.writer.wait_quietly()
            raise
        self.state.finish()

    def _go_on(self, stop_asked: Callable[[], bool]) -> None:
        config = self.config
        for hook in self.hooks:
            hook.begin(self, Moment(self.progress.step, last=self.progress.step == config.steps, saves=True))
        while self.progress.step < config.steps:
            self._iterate(self.progress.step)
            step, stopping = self.progress.step, self.ranks.anyone(stop_asked())
            last = step == config.steps
            moment = Moment(step, last, saves=due(step, config.checkpoint.every) or last or stopping)
            for hook in self.hooks:
                hook.ended(self, moment)
            self.state.writer.check()
            if stopping and not last:
                self.state.finish()
                raise Interrupted

    def _iterate(self, step: int) -> None:
        clock, passes, updates = [time.perf_counter()], self.policy.passes.copy(), self.progress.updates
        drawn = self.source.draw(step)
        clock.append(time.perf_counter())
        try:
            parts_RKG, failures = collect_drawn(drawn, self.config, self.specs, self.ranks, step + 1)
        except CannotGoOn as error:
            self.stop(error.sentence, error.mending)
        clock.append(time.perf_counter())
        scales, weights = [card_of(spec).train_scale for spec in self.specs], [one.train_weight for one in self.specs]
        scores_KG, learned_KG = mix_rewards(parts_RKG, scales, weights, self.config.advantage)
        described = describe_scores(scores_KG, learned_KG)
        for hook in self.hooks:
            hook.scored(self, Scores(parts_RKG, described, failures))
        self.optimizer.gradient_norm = 0.0
        self.algorithm.forget_suspects()
        try:
            learned = self.algorithm.learn(drawn.batch.scored(learned_KG), step, self._update)
        except NotFinite:
            if self.progress.updates == updates:  # else the state is the end of no iteration
                self.save(check=False)
            self.state.finish()
            suspects = drawn.batch.name_images(sorted(set(self.ranks.gather(self.algorithm.suspects))))
            raise SetupError(self.state.tell_not_finite(updates, suspects)) from None
        self.state.end_iteration()
        clock.append(time.perf_counter())
        metrics = {
            "step": step + 1,
            **described,
            **describe_parts([spec.key for spec in self.specs], parts_RKG),
            **learned,
            "gradient_norm": self.optimizer.gradient_norm,
            "learning_rate": self.optimizer.learning_rate,
            "merged": drawn.merged,
            "seconds": drawn.divide(clock),
            "scoring_seconds": scoring_seconds(drawn.scored),
            "passes": passes_per_image(self.config, self.policy.model.passes, self._made(passes, drawn), self.ranks),
        }
        if self.ranks.main:
            self.run.record(metrics)
            self.on_step(metrics)

    def _made(self, before: Counter[str], drawn: Drawn) -> dict[str, int]:
        """Passes of this rank since `before`; in drawing those of this iteration's images, whenever they were drawn."""
        made = {name: count - before[name] for name, count in self.policy.passes.items()}
        made["recompute"] = made.get("backward", 0)  # where activations are not kept, which the plan knows
        return made if drawn.passes is None else {**made, "rollout": drawn.passes}

    def _update(self) -> None:
        self.algorithm.updated(self.state.update())

    def save(self, *, check: bool = True) -> None:
        """Have a checkpoint of the state as it is written beside the loop (`State.finish` waits for it).

        The hooks are asked before, unless nothing was learned since.
        """
        for hook in self.hooks if check else ():
            hook.saving(self)
        self.state.save()

    def stop(self, sentence: str, mending: str, *, saved: bool = False) -> NoReturn:
        """Nothing was learned from what went wrong, so the state is the one before it: save that and stop."""
        if not saved:
            self.save(check=False)
        self.state.finish()
        raise SetupError(f"{sentence} The run is saved; {mending} and give the same command to go on.")

    def note(self, *sentences: str) -> None:
        """Tell the user."""
        for sentence in sentences:
            self.on_note(sentence)
