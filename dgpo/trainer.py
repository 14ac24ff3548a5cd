"""The training loop.

Shapes: R rewards, K prompts an iteration, G images of each.
"""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from PIL import Image

from dgpo.advantage import mix, standardise
from dgpo.alarms import Alarms, Watched
from dgpo.algorithms.dgpo import DGPO
from dgpo.checkpoint import Progress, restore_checkpoint, save_checkpoint
from dgpo.config import Config
from dgpo.figures import draw_curve, draw_grid
from dgpo.guards import GuardTripped, baseless, tripped, unmeasured
from dgpo.parallel import Ranks
from dgpo.policy import Policy
from dgpo.prompts import PromptStream
from dgpo.rollout import Groups, draw_groups
from dgpo.run import Run
from dgpo.sample import draw_images
from dgpo.scores import collect_scores, describe_parts, describe_scores
from dgpo.watch import CanaryWatch
from rewards.errors import DgpoError, SetupError, UsageError
from rewards.pool import Scored, ScoringPool
from rewards.prompt import Prompt
from rewards.registry import card_of
from rewards.spec import RewardSpec

SAMPLE_SEEDS = 4


class Interrupted(Exception):
    """The run was asked to stop; it saved and can be continued by the same command."""


@dataclass(frozen=True)
class Listeners:
    """Whom the trainer tells: every step's metrics, a sentence now and then, and the held-out evaluation to make.

    `evaluate` measures the rewards at a step, `picture` then gives the figures of the images that were drawn for it.
    """

    on_step: Callable[[dict[str, Any]], None]
    on_note: Callable[[str], None]
    evaluate: Callable[[int, Policy], dict[str, Any]] | None = None
    picture: Callable[[int], dict[str, float | None]] | None = None
    stop_asked: Callable[[], bool] = lambda: False


class Trainer:
    """Trains one model in one run folder; every rank holds one."""

    def __init__(
        self,
        config: Config,
        *,
        policy: Policy,
        specs: Sequence[RewardSpec],
        pool: ScoringPool,
        prompts: PromptStream,
        sample_prompts: Sequence[Prompt],
        run: Run,
        ranks: Ranks,
        listeners: Listeners,
    ):
        self.config, self.specs, self.pool, self.prompts = config, specs, pool, prompts
        self.sample_prompts, self.run, self.ranks, self.listeners = sample_prompts, run, ranks, listeners
        self.policy = policy
        if (
            config.objective.clip is not None
            or config.objective.reference == "old"
            or config.rollout.old_after is not None
        ):
            self.policy.keep("old")
        if config.averages.evaluation_decay > 0:
            self.policy.keep("average")
        settings = config.optimizer
        self.optimizer = torch.optim.AdamW(
            self.policy.parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            eps=settings.epsilon,
            weight_decay=settings.weight_decay,
        )
        self.algorithm = DGPO(self.policy, config, ranks)
        self.canaries = CanaryWatch(config.watch, specs, pool.submit, prompts=prompts.prompts, run=run, ranks=ranks)
        self.alarms = Alarms(config.watch, [_watched(spec) for spec in specs], config.max_failed)
        self.progress = Progress()
        self.gradient_norm = 0.0
        self.updates_before = 0

    def train(self, *, resume: bool) -> None:
        """Iterate to `config.steps`, from the last whole checkpoint if `resume`."""
        if resume:
            self._resume()
        if self.progress.step < self.config.steps:
            self._note(self.canaries.begin(self.progress.step))
            self.alarms.alive = self.canaries.alive
        self._look()  # at the start, or again where an earlier part ended in the middle of it
        if self.progress.step > 0:
            self._guard()  # as the last evaluation left it; at step 0 there is no change to go by
        while self.progress.step < self.config.steps:
            self._iterate(self.progress.step)
            step = self.progress.step
            last = step == self.config.steps
            stop = self._anyone(self.listeners.stop_asked())
            saves = _due(step, self.config.checkpoint.every) or last or stop
            if saves or _due(step, self.config.watch.canary_every):
                self._note(self.canaries.look(step))  # first: no checkpoint holds what changed scores have taught
            if saves:
                self._save()
            self._look(saved=saves)
            self._guard(saved=saves)
            if stop and not last:
                raise Interrupted
        self.ranks.wait()

    def _iterate(self, step: int) -> None:
        started = time.perf_counter()
        passes, self.gradient_norm = self.policy.passes.copy(), 0.0
        self.updates_before = self.progress.updates
        groups, scored, handing = self._draw(step)
        drawn = time.perf_counter()
        parts_RKG, failures = self._collect(groups, scored)
        judged = time.perf_counter()
        scores_KG, learned_KG = self._mix(parts_RKG)
        described = describe_scores(scores_KG, learned_KG)
        self._raise_alarms(parts_RKG, described["dead_groups"], failures)
        advantage_KG = standardise(learned_KG, **self.config.advantage.model_dump(exclude={"per_reward"}))
        learned = self.algorithm.learn(groups, advantage_KG, step, self._update)
        self.progress = replace(self.progress, step=step + 1)
        self._average()
        self._tell(
            {
                "step": step + 1,
                **described,
                **describe_parts([spec.key for spec in self.specs], parts_RKG),
                **learned,
                "gradient_norm": self.gradient_norm,
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "seconds": {
                    "draw": drawn - started - handing,
                    "score": judged - drawn + handing,
                    "learn": time.perf_counter() - judged,
                },
                "passes": self._passes_an_image(passes),
            }
        )

    def _draw(self, step: int) -> tuple[Groups, list[Future[Scored]], float]:
        """One rollout; its images are being scored while the next ones are drawn.

        The seconds are those of handing them over: with workers=0 they are scored in that time.
        """
        rollout, scored, handing = self.config.rollout, [], 0.0

        def score(images: list[Image.Image], prompts: list[Prompt]) -> None:
            nonlocal handing
            start = time.perf_counter()
            scored.append(self.pool.submit(images, prompts))
            handing += time.perf_counter() - start

        old = rollout.old_after is not None and step >= rollout.old_after
        groups = draw_groups(
            self.policy,
            self.prompts.take(step, self.config.groups),
            group_size=self.config.group_size,
            sampling=self.config.sampling,
            micro_batch=rollout.micro_batch,
            who="old" if old else "current",
            ranks=self.ranks,
            seed=self.config.seed,
            step=step,
            on_images=score,
        )
        return groups, scored, handing

    def _collect(self, groups: Groups, scored: list[Future[Scored]]) -> tuple[torch.Tensor, list[str]]:
        """All ranks' scores [R, K, G] and why some are missing; too many of those stop the run."""
        sizes = {"groups": self.config.groups, "group_size": self.config.group_size}
        try:
            drawn_B = groups.image_B[groups.drawn_B]
            parts_RKG, failures = collect_scores(scored, drawn_B, self.specs, self.ranks, unmade=groups.failed, **sizes)
        except SetupError as error:
            self._stop(f"Iteration {self.progress.step + 1}: {error}", "mend the cause")
        if len(failures) > self.config.max_failed:
            self._stop(
                f"{len(failures)} of {self.config.images} images could not be scored in iteration "
                f"{self.progress.step + 1}, and max_failed is {self.config.max_failed}. "
                f"The first reason: {failures[0]}.",
                "mend the cause (or allow more with --max-failed)",
            )
        return parts_RKG, failures

    def _raise_alarms(self, parts_RKG: torch.Tensor, dead_groups: float, failures: Sequence[str]) -> None:
        for alarm in self.alarms.hear(parts_RKG, dead_groups, failures, images=self.config.images):
            if alarm.stop:
                self.canaries.forget(alarm.key)
                self._stop(f"Iteration {self.progress.step + 1}: {alarm.sentence}", "mend the cause")
            self._note([f"iteration {self.progress.step + 1}: {alarm.sentence}"])

    def _mix(self, parts_RKG: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted sum of the rewards [K, G], as it is reported, and as it is learned from."""
        scale_R = torch.tensor([card_of(spec).train_scale for spec in self.specs], dtype=torch.float64)
        weight_R = torch.tensor([spec.train_weight for spec in self.specs], dtype=torch.float64)
        scaled_RKG, settings = parts_RKG * scale_R[:, None, None], self.config.advantage
        scores_KG = mix(scaled_RKG, weight_R)
        if not settings.per_reward:
            return scores_KG, scores_KG
        return scores_KG, mix(scaled_RKG, weight_R, per_reward=True, epsilon=settings.epsilon)

    def _stop(self, sentence: str, mending: str, *, saved: bool = False) -> NoReturn:
        """Nothing was learned from what went wrong, so the state is the one before it: save that and stop."""
        if not saved:
            self._save()
        raise SetupError(f"{sentence} The run is saved; {mending} and give the same command to go on.")

    def _stop_for_gradient(self) -> NoReturn:
        """Save, unless an update of this very iteration has been made: such a state is the end of no iteration."""
        if self.progress.updates == self.updates_before:
            self._save()
            stands = "is saved at the iteration before"
        else:
            stands = "stands at its last checkpoint"
        raise SetupError(
            f"The gradient of iteration {self.progress.step + 1} is not finite, so no step was taken with it. The run "
            f"{stands}, and the same command would meet it again: give another --output with a lower "
            "optimizer.learning_rate, or with training.dtype fp32."
        )

    def _update(self) -> None:
        """Sum the gradients over the ranks, limit their norm, and take one step; the old policy follows."""
        self.ranks.sum_gradients(self.policy.parameters)
        settings = self.config.optimizer
        self.gradient_norm = float(torch.nn.utils.clip_grad_norm_(self.policy.parameters, settings.max_norm))
        if not math.isfinite(self.gradient_norm):
            self._stop_for_gradient()
        rise = min(1.0, (self.progress.updates + 1) / settings.warm_up) if settings.warm_up else 1.0
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * rise
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress = replace(self.progress, updates=self.progress.updates + 1)
        if "old" in self.policy.snapshots:
            averages = self.config.averages
            self.policy.follow("old", min(averages.old_decay, averages.old_growth * self.progress.updates))

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

    def _look(self, *, saved: bool = True) -> None:
        """What is due at this step of sample grid, held-out evaluation and curve; the main rank looks, others wait.

        An evaluation that cannot be made ends the run, which is saved first.
        """
        problem = None
        if self.ranks.main:
            try:
                self._look_alone(self.progress.step)
            except DgpoError as error:
                problem = str(error)
        problem = self.ranks.gather([problem])[0]
        if problem is None:
            return
        step = self.progress.step
        if step == 0:
            raise SetupError(f"{problem} Nothing has been learned yet.")
        if not saved:
            self._note(self.canaries.look(step))
        self._stop(f"The evaluation at step {step} cannot be made: {problem}", "mend the cause", saved=saved)

    def _look_alone(self, step: int) -> None:
        """What is there already was made by an earlier part of the run, from the same weights."""
        config, evaluate = self.config, self.listeners.evaluate
        last, lines = step == config.steps, self.run.read_metrics()
        grid = self.run.folder / "samples" / f"step-{step:06d}.png"
        draws = (last or _due(step, config.samples.every)) and not grid.exists()
        measured = any("evaluation" in line and line["step"] == step for line in lines)
        if draws:
            cells = [(prompt, seed) for prompt in self.sample_prompts for seed in range(SAMPLE_SEEDS)]
            images = draw_images(self.policy, cells, config.sampling, who=self.policy.published)
            draw_grid(images, [prompt.text for prompt in self.sample_prompts], SAMPLE_SEEDS, grid)
        measures = evaluate is not None and not measured and (step == 0 or last or _due(step, config.evaluation.every))
        if evaluate is not None and measures:
            record: dict[str, Any] = {"step": step, "evaluation": evaluate(step, self.policy)}
            if self.listeners.picture is not None:
                record["pictures"] = self.listeners.picture(step)
            self.run.record(record)
        if draws or measures or last:
            draw_curve(self.run.read_metrics(), self.run.folder / "curve.png")

    def _guard(self, *, saved: bool = True) -> None:
        """End the run where the latest evaluation trips a guard; what has been learned until now is saved first."""
        guards = self.config.evaluation.guards
        lines = self.run.read_metrics() if guards and self.ranks.main else []
        found = [functions(guards, lines) for functions in (tripped, unmeasured, baseless)]
        reasons, silent, blind = self.ranks.gather([found])[0]
        if blind:
            raise UsageError(
                f'The guard "{blind[0]}" is about the change since step 0, when this run did not measure it. Take it'
                " off, or start over with --fresh."
            )
        self._note([f'the guard "{guard}" found no number to go by' for guard in silent])
        if not reasons:
            return
        if not saved:
            self._note(self.canaries.look(self.progress.step))
            self._save()
        raise GuardTripped(" ".join(reasons))

    def _save(self) -> None:
        """By the main rank; the others wait, since a rank that ends early has its launcher end the one that writes."""
        if self.ranks.main:
            save_checkpoint(self.run.checkpoints, self.policy, self.optimizer, self.progress)
        self.ranks.wait()
        if "average" in self.policy.snapshots and self.policy.published == "current":
            self._note(
                [
                    f"the checkpoint of step {self.progress.step} publishes the trained weights as they are: their "
                    f"average first moves at iteration {self.config.averages.evaluation_every} "
                    "(averages.evaluation_every)"
                ]
            )

    def _resume(self) -> None:
        path, notes = self.run.last_checkpoint() if self.ranks.main else (None, [])
        path = self.ranks.gather([path])[0]
        self._note(notes)
        if path is not None:
            self.progress = restore_checkpoint(path, self.policy, self.optimizer)
            self._choose_published()
            self._note([f"continuing from {path} at step {self.progress.step}"])
        if self.ranks.main:
            self._note(self.run.cut_metrics(self.progress.step or -1))  # at step 0 the first look is taken again

    def _note(self, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            self.listeners.on_note(sentence)

    def _tell(self, metrics: dict[str, Any]) -> None:
        if self.ranks.main:
            self.run.record(metrics)
            self.listeners.on_step(metrics)

    def _anyone(self, flag: bool) -> bool:
        return bool(self.ranks.sum(torch.tensor(float(flag), device=self.ranks.device)).item())

    def _passes_an_image(self, before: dict[str, int]) -> dict[str, float]:
        """Transformer passes of this iteration by purpose, over its images, all ranks together."""
        names = ("rollout", "old", "reference", "current", "backward")
        counts = torch.tensor(
            [self.policy.passes[n] - before[n] for n in names], dtype=torch.float64, device=self.ranks.device
        )
        return dict(zip(names, (self.ranks.sum(counts) / self.config.images).tolist(), strict=True))


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _watched(spec: RewardSpec) -> Watched:
    """Its bounds as training sees them: a weight below zero turns them round."""
    low, high = card_of(spec).bounds
    if spec.train_weight * card_of(spec).train_scale < 0:
        low, high = high, low
    return Watched(spec.key, best=high, worst=low)
