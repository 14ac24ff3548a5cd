"""The training loop: draw, score, learn, record; everything that supervises is a hook.

Shapes: R rewards, K prompts per iteration, G images of each.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch

from dgpo.advantage import mix_rewards
from dgpo.algorithms.algorithm import Algorithm
from dgpo.checkpoint import Progress
from dgpo.config import Config
from dgpo.optimizer import NotFinite, Optimizer
from dgpo.parallel import Ranks
from dgpo.plan import passes_per_image
from dgpo.policy import Policy
from dgpo.run import Run
from dgpo.scores import collect_scores, describe_parts, describe_scores
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
        config = self.config
        if resume:
            self.state.restore()
        for hook in self.hooks:
            hook.begin(self, Moment(self.progress.step, last=self.progress.step == config.steps, saves=True))
        while self.progress.step < config.steps:
            self._iterate(self.progress.step)
            step, stopping = self.progress.step, self.ranks.anyone(stop_asked())
            last = step == config.steps
            moment = Moment(step, last, saves=due(step, config.checkpoint.every) or last or stopping)
            for hook in self.hooks:
                hook.ended(self, moment)
            if stopping and not last:
                raise Interrupted
        self.ranks.wait()

    def _iterate(self, step: int) -> None:
        clock, passes, updates = [time.perf_counter()], self.policy.passes.copy(), self.progress.updates
        drawn = self.source.draw(step)
        clock.append(time.perf_counter())
        parts_RKG, failures = self._collect(drawn)
        clock.append(time.perf_counter())
        scales, weights = [card_of(spec).train_scale for spec in self.specs], [one.train_weight for one in self.specs]
        scores_KG, learned_KG = mix_rewards(parts_RKG, scales, weights, self.config.advantage)
        described = describe_scores(scores_KG, learned_KG)
        for hook in self.hooks:
            hook.scored(self, Scores(parts_RKG, described, failures))
        self.optimizer.gradient_norm = 0.0
        try:
            learned = self.algorithm.learn(drawn.batch.scored(learned_KG), step, self._update)
        except NotFinite:
            self._stop_for_gradient(updates)
        self.state.end_iteration()
        clock.append(time.perf_counter())
        metrics = {
            "step": step + 1,
            **described,
            **describe_parts([spec.key for spec in self.specs], parts_RKG),
            **learned,
            "gradient_norm": self.optimizer.gradient_norm,
            "learning_rate": self.optimizer.learning_rate,
            "seconds": drawn.divide(clock),
            "passes": passes_per_image(self.config, self.policy.model.passes, self.policy.passes, passes, self.ranks),
        }
        if self.ranks.main:
            self.run.record(metrics)
            self.on_step(metrics)

    def _collect(self, drawn: Drawn) -> tuple[torch.Tensor, list[str]]:
        """All ranks' scores [R, K, G] and why some are missing; too many of those stop the run."""
        config, batch, iteration = self.config, drawn.batch, self.progress.step + 1
        sizes = {"groups": config.groups, "group_size": config.group_size}
        try:
            numbers = batch.image_B[batch.drawn_B]
            parts_RKG, failures = collect_scores(
                drawn.scored, numbers, self.specs, self.ranks, unmade=batch.failed, **sizes
            )
        except SetupError as error:
            self.stop(f"Iteration {iteration}: {error}", "mend the cause")
        if len(failures) > config.max_failed:
            self.stop(
                f"{len(failures)} of {config.images} images could not be scored in iteration {iteration}, and "
                f"max_failed is {config.max_failed}. The first reason: {failures[0]}.",
                "mend the cause (or allow more with --max-failed)",
            )
        return parts_RKG, failures

    def _update(self) -> None:
        self.algorithm.updated(self.state.update())

    def save(self, *, check: bool = True) -> None:
        """Write a checkpoint of the state as it is; the hooks are asked before, unless nothing was learned since."""
        for hook in self.hooks if check else ():
            hook.saving(self)
        self.state.save()

    def stop(self, sentence: str, mending: str, *, saved: bool = False) -> NoReturn:
        """Nothing was learned from what went wrong, so the state is the one before it: save that and stop."""
        if not saved:
            self.save(check=False)
        raise SetupError(f"{sentence} The run is saved; {mending} and give the same command to go on.")

    def _stop_for_gradient(self, updates_before: int) -> NoReturn:
        """Save, unless an update of this very iteration has been made: such a state is the end of no iteration."""
        stands = "stands at its last checkpoint"
        if self.progress.updates == updates_before:
            self.save(check=False)
            stands = "is saved at the iteration before"
        raise SetupError(
            f"The gradient of iteration {self.progress.step + 1} is not finite, so no step was taken with it. The run "
            f"{stands}, and the same command would meet it again: give another --output with a lower "
            "optimizer.learning_rate, or with training.dtype fp32."
        )

    def note(self, *sentences: str) -> None:
        """Tell the user."""
        for sentence in sentences:
            self.on_note(sentence)
