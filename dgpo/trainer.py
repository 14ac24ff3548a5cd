"""The training loop: draw, score, learn, record; what supervises is a hook.

Shapes: R rewards, K prompts per iteration, G images of each.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import torch

from dgpo.advantage import mix_rewards
from dgpo.algorithms.algorithm import Algorithm
from dgpo.checkpoint import Progress, restore_checkpoint, save_checkpoint
from dgpo.config import Config
from dgpo.optimizer import NotFinite, Optimizer
from dgpo.parallel import Ranks
from dgpo.policy import Policy
from dgpo.run import Run
from dgpo.scores import collect_scores, describe_parts, describe_scores
from dgpo.source import Drawn, Source
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
        self.optimizer = Optimizer(config.optimizer, policy.parameters, ranks)
        self.progress = Progress()

    def train(self, *, resume: bool, stop_asked: Callable[[], bool] = lambda: False) -> None:
        """Iterate to `config.steps`, from the last whole checkpoint if `resume`.

        Raises:
            Interrupted: `stop_asked` said so on some rank; the run is saved.
            GuardTripped: a guard ended the run, which is saved.
            SetupError, UsageError: it cannot go on; the sentence says whether it is saved and how to mend that.
        """
        if resume:
            self._resume()
        step = self.progress.step
        self._tell_hooks("begin", Moment(step, last=step == self.config.steps, saves=True))
        while self.progress.step < self.config.steps:
            self._iterate(self.progress.step)
            step, stopping = self.progress.step, self.ranks.anyone(stop_asked())
            last = step == self.config.steps
            saves = due(step, self.config.checkpoint.every) or last or stopping
            self._tell_hooks("ended", Moment(step, last=last, saves=saves))
            if stopping and not last:
                raise Interrupted
        self.ranks.wait()

    def _iterate(self, step: int) -> None:
        started, passes, updates = time.perf_counter(), self.policy.passes.copy(), self.progress.updates
        drawn = self.source.draw(step)
        drawn_at = time.perf_counter()
        parts_RKG, failures = self._collect(drawn)
        scored_at = time.perf_counter()
        scores_KG, learned_KG = self._mix(parts_RKG)
        described = describe_scores(scores_KG, learned_KG)
        self._tell_hooks("scored", Scores(parts_RKG, described, failures))
        self.optimizer.gradient_norm = 0.0
        try:
            learned = self.algorithm.learn(drawn.batch.scored(learned_KG), step, self._update)
        except NotFinite:
            self._stop_for_gradient(updates)
        self.progress = replace(self.progress, step=step + 1)
        self._average()
        self._record(
            {
                "step": step + 1,
                **described,
                **describe_parts([spec.key for spec in self.specs], parts_RKG),
                **learned,
                "gradient_norm": self.optimizer.gradient_norm,
                "learning_rate": self.optimizer.learning_rate,
                "seconds": {
                    "draw": drawn_at - started - drawn.handing_s,
                    "score": scored_at - drawn_at + drawn.handing_s,
                    "learn": time.perf_counter() - scored_at,
                },
                "passes": self._passes_per_image(passes),
            }
        )

    def _collect(self, drawn: Drawn) -> tuple[torch.Tensor, list[str]]:
        """All ranks' scores [R, K, G] and why some are missing; too many of those stop the run."""
        config, batch = self.config, drawn.batch
        sizes = {"groups": config.groups, "group_size": config.group_size}
        try:
            numbers = batch.image_B[batch.drawn_B]
            parts, failures = collect_scores(
                drawn.scored, numbers, self.specs, self.ranks, unmade=batch.failed, **sizes
            )
        except SetupError as error:
            self.stop(f"Iteration {self.progress.step + 1}: {error}", "mend the cause")
        if len(failures) > config.max_failed:
            self.stop(
                f"{len(failures)} of {config.images} images could not be scored in iteration "
                f"{self.progress.step + 1}, and max_failed is {config.max_failed}. "
                f"The first reason: {failures[0]}.",
                "mend the cause (or allow more with --max-failed)",
            )
        return parts, failures

    def _mix(self, parts_RKG: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted sum of the rewards [K, G], as it is reported, and as it is learned from."""
        scales = [card_of(spec).train_scale for spec in self.specs]
        weights = [spec.train_weight for spec in self.specs]
        return mix_rewards(parts_RKG, scales, weights, self.config.advantage)

    def _update(self) -> None:
        """One optimiser step, and what the algorithm has to do after it."""
        self.optimizer.step(self.progress.updates)
        self.progress = replace(self.progress, updates=self.progress.updates + 1)
        self.algorithm.updated(self.progress.updates)

    def _average(self) -> None:
        """Move the evaluation average, once in so many iterations however many ranks and micro-batches there are."""
        averages, step = self.config.averages, self.progress.step
        if "average" in self.policy.snapshots and step % averages.evaluation_every == 0:
            self.policy.follow("average", min((1 + step) / (10 + step), averages.evaluation_decay))
        self._choose_published()

    def _choose_published(self) -> None:
        """The average once it has moved: until then it is the untouched base, and the trained weights are published."""
        if "average" in self.policy.snapshots and self.progress.step >= self.config.averages.evaluation_every:
            self.policy.published = "average"

    def save(self, *, check: bool = True) -> None:
        """Write a checkpoint of the state as it is; the hooks are asked before, unless nothing was learned since.

        By the main rank; the others wait, since a rank that ends early has its launcher end the one that writes.
        """
        if check:
            self._tell_hooks("saving")
        if self.ranks.main:
            save_checkpoint(self.run.checkpoints, self.policy, self.optimizer.adamw, self.progress)
        self.ranks.wait()
        if "average" in self.policy.snapshots and self.policy.published == "current":
            self.note(
                f"the checkpoint of step {self.progress.step} publishes the trained weights as they are: their "
                f"average first moves at iteration {self.config.averages.evaluation_every} (averages.evaluation_every)"
            )

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

    def _resume(self) -> None:
        path, notes = self.run.last_checkpoint() if self.ranks.main else (None, [])
        path = self.ranks.gather([path])[0]
        self.note(*notes)
        if path is not None:
            self.progress = restore_checkpoint(path, self.policy, self.optimizer.adamw)
            self._choose_published()
            self.note(f"continuing from {path} at step {self.progress.step}")
        if self.ranks.main:
            self.note(*self.run.cut_metrics(self.progress.step or -1))  # at step 0 the first look is taken again

    def note(self, *sentences: str) -> None:
        """Tell the user."""
        for sentence in sentences:
            self.on_note(sentence)

    def _tell_hooks(self, moment: str, *facts: Any) -> None:
        for hook in self.hooks:
            getattr(hook, moment)(self, *facts)

    def _record(self, metrics: dict[str, Any]) -> None:
        if self.ranks.main:
            self.run.record(metrics)
            self.on_step(metrics)

    def _passes_per_image(self, before: dict[str, int]) -> dict[str, float]:
        """Passes through the network in this iteration by purpose, over its images, all ranks together."""
        names = list(self.algorithm.passes(self.config.learning, self.config.sampling, guided=2, live_share=1.0))
        counts = torch.tensor(
            [self.policy.passes[n] - before[n] for n in names], dtype=torch.float64, device=self.ranks.device
        )
        return dict(zip(names, (self.ranks.sum(counts) / self.config.images).tolist(), strict=True))
