"""A training as a function: `train(config, folder) -> Outcome`.

The command line, tests, notebooks and studies all call it. It prints nothing, sets no signal handler and no number of
threads, and ends no process: what there is to tell goes to `on_note` and `on_step`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dgpo.algorithms.algorithm import Algorithm, Geometry, find_algorithm
from dgpo.config import Config
from dgpo.cost import describe_spent
from dgpo.facts import describe_training, tell_changes
from dgpo.footprint import Footprint
from dgpo.load import check_learnable, load_outline, load_policy
from dgpo.memory import free_memory, room_of
from dgpo.models.libraries import hushed_loading
from dgpo.models.pretrained import FAULTS
from dgpo.offline import RecordedSource, Recording, read_recording
from dgpo.parallel import Ranks
from dgpo.plan import check_first_step, check_rollout, check_trajectory, describe_passes, weights_kept
from dgpo.policy import Policy
from dgpo.precision import AUTO, Settled, examine, held_in, settle
from dgpo.prefetch import Prefetch
from dgpo.prompts import PromptStream, default_prompts
from dgpo.reward_choice import RewardChoice, choose_rewards
from dgpo.rollout import Rollout
from dgpo.run import Run, read_facts
from dgpo.source import Source
from dgpo.supervision.alarms import AlarmHook
from dgpo.supervision.canaries import Canaries
from dgpo.supervision.checkpoints import Checkpoints
from dgpo.supervision.curve import Curve
from dgpo.supervision.evaluation import Figures, HeldOut, Measure
from dgpo.supervision.guards import GuardHook, GuardTripped, parse_guard
from dgpo.supervision.hooks import Hook
from dgpo.supervision.samples import Samples
from dgpo.trainer import Interrupted, Trainer
from rewards.errors import UsageError
from rewards.files import check_shared, sha256
from rewards.pool import ScoringPool
from rewards.prompt import Prompt
from rewards.prompt_record import write_training_prompts

SAMPLED = 6


@dataclass(frozen=True)
class Outcome:
    """How a training ended; one that failed raises instead, with a sentence that says whether it is saved."""

    kind: Literal["finished", "interrupted", "guarded"]
    """All iterations are done; a stop was asked for, and the same call goes on; or a guard ended it, which is saved."""
    sentence: str
    step: int
    """Iterations done."""
    folder: Path


class Evaluation(NamedTuple):
    """How a run is evaluated now and then: `measure` on all ranks at once, `figures` of the images on the main one."""

    measure: Measure
    figures: Figures | None = None


MakeEvaluation = Callable[[Run, ScoringPool, Ranks], Evaluation]
"""Gets the run, an open pool that scores what is measured, and the ranks."""
MakeSource = Callable[[Config, Policy, Sequence[Prompt], ScoringPool, Ranks], Source]


def train(
    config: Config,
    folder: Path | str,
    *,
    prompts: Sequence[Prompt] | None = None,
    sample_prompts: Sequence[Prompt] | None = None,
    rewards: RewardChoice | None = None,
    evaluation: MakeEvaluation | None = None,
    source: MakeSource | None = None,
    hooks: Sequence[Hook] = (),
    pool: ScoringPool | None = None,
    facts: Mapping[str, Any] | None = None,
    on_step: Callable[[dict[str, Any]], None] = lambda metrics: None,
    on_note: Callable[[str], None] = lambda sentence: None,
    stop_asked: Callable[[], bool] = lambda: False,
    fresh: bool = False,
    ranks: Ranks | None = None,
) -> Outcome:
    """Train what `config` says in `folder`; the same call again goes on where the last one ended.

    Args:
        prompts: to train on; without them those of `config.prompts`, or the embedded model's own.
        sample_prompts: those of the sample grids; without them the first six of `prompts`.
        rewards: already parsed; without them they are parsed from the config.
        evaluation: how held-out prompts are measured every `config.evaluation.every` iterations; None is not at all.
        source: makes the source of batches in place of the one that `config.source` names.
        hooks: asked after all others at every moment.
        pool: an open one as `open_pool` makes it; without it that one is opened.
        facts: recorded in run.json beside what is known here (versions, hardware, command).
        on_step: gets the metrics of every iteration, on the main rank.
        on_note: gets a sentence now and then.
        stop_asked: asked after every iteration; True saves and returns.
        fresh: delete the run in the folder and start over.
        ranks: this process among its peers; without it as the environment says.

    Raises:
        UsageError: the settings are impossible, or the folder belongs to another run.
        SetupError: something on this machine is missing or went wrong; the sentence says whether the run is saved.
    """
    ranks = ranks or Ranks(on_note=on_note)
    tell = on_note if ranks.main else (lambda sentence: None)
    rewards = rewards or choose_rewards(config)
    check_rollout(config)
    check_learnable(config)
    recording = find_recording(config)
    if prompts is None:
        prompts = default_prompts(config) if recording is None else recording.prompts
    run = Run(Path(folder))
    with run.lock() if ranks.main else nullcontext():
        settled = held_in(_settle_precision(config, run, ranks, fresh=fresh), config.training.quantize)
        tell(f"precision: {settled}")
        config = config.in_precision(settled.dtype)
        if config.training.checkpointing == AUTO:
            config = _settle_checkpointing(config, run, ranks, tell, fresh=fresh)
        with hushed_loading():
            policy = load_policy(config.model, config, ranks.device, trainable=True)
        known = {**(facts or {}), "precision": asdict(settled)}
        measuring = evaluation is not None
        with open_pool(config, rewards, measuring=measuring) if pool is None else nullcontext(pool) as pool:
            if ranks.main:  # files are hashed for it, gigabytes of them
                told_by = {key: facts.provenance for key, facts in pool.limited_to(rewards.trained).facts().items()}
                known |= describe_training(
                    config, prompts, told_by, recording, cost=policy.model.passes, processes=ranks.size
                )
            continues = _begin(run, config, ranks, known, prompts, tell, fresh=fresh)
            trainer = assemble(
                config,
                policy=policy,
                rewards=rewards,
                prompts=prompts,
                sample_prompts=sample_prompts,
                source=source or partial(choose_source, recording=recording),
                evaluation=None if evaluation is None else evaluation(run, pool.limited_to(rewards.measured), ranks),
                hooks=hooks,
                pool=pool.limited_to(rewards.trained),
                run=run,
                ranks=ranks,
                on_step=on_step,
                on_note=on_note,
            )
            outcome = _train(trainer, stop_asked, resume=continues)
            if ranks.main:
                run.note({"spent": describe_spent(run.read_metrics())})
            return outcome


def open_pool(config: Config, rewards: RewardChoice, *, measuring: bool) -> ScoringPool:
    """The pool of a training, to be entered: it scores by what is trained on, and by what evaluations measure besides.

    Args:
        measuring: whether there are evaluations.
    """
    specs = rewards.measured if measuring else rewards.trained
    return ScoringPool(specs, config.workers, deadline_s=config.watch.reward_seconds)


def assemble(
    config: Config,
    *,
    policy: Policy,
    rewards: RewardChoice,
    prompts: Sequence[Prompt],
    pool: ScoringPool,
    run: Run,
    ranks: Ranks,
    sample_prompts: Sequence[Prompt] | None = None,
    source: MakeSource | None = None,
    evaluation: Evaluation | None = None,
    hooks: Sequence[Hook] = (),
    on_step: Callable[[dict[str, Any]], None] = lambda metrics: None,
    on_note: Callable[[str], None] = lambda sentence: None,
) -> Trainer:
    """The trainer of a run whose folder is open; what `train` puts together and runs."""
    grids = Samples(config.samples, sample_prompts or prompts[:SAMPLED], config.sampling)
    algorithm = build_algorithm(config, policy, ranks)
    chosen = (source or choose_source)(config, policy, prompts, pool, ranks)
    ahead = Prefetch(chosen, policy, config.steps) if config.rollout.ahead and isinstance(chosen, Rollout) else None
    return Trainer(
        config,
        policy=policy,
        algorithm=algorithm,
        source=ahead or chosen,
        specs=rewards.trained,
        run=run,
        ranks=ranks,
        hooks=[
            *([ahead] if ahead else []),
            *build_hooks(config, rewards, prompts, grids, evaluation, pool, run, ranks),
            *hooks,
        ],
        on_step=on_step,
        on_note=on_note,
    )


def build_algorithm(config: Config, policy: Policy, ranks: Ranks) -> Algorithm:
    """The algorithm that a config names; the policy keeps the weights that it needs beside the trained ones."""
    kind = find_algorithm(config.algorithm)
    for name in weights_kept(config):
        policy.keep(name)
    geometry = Geometry(config.groups, config.group_size, config.optimizer.micro_batch, config.seed)
    return kind(config.learning, advantage=config.advantage, geometry=geometry, policy=policy, ranks=ranks)


def choose_source(
    config: Config,
    policy: Policy,
    prompts: Sequence[Prompt],
    pool: ScoringPool,
    ranks: Ranks,
    recording: Recording | None = None,
) -> Source:
    """The source of batches that a config names; `recording` is what `find_recording` read."""
    if recording is not None:
        return RecordedSource(recording, policy, config, pool.specs, pool, ranks)
    stream, offline = PromptStream(prompts, config.seed), config.source.kind == "offline"
    needs = find_algorithm(config.algorithm).needs(config.learning)
    shape = policy.model.latent_shape(config.sampling.height, config.sampling.width)
    check_first_step(config, policy.model.schedule(config.sampling, shape).times)
    check_trajectory(config, shape, ranks, free_memory(ranks.device))
    return Rollout(policy, config, stream, pool.submit, ranks, needs=needs, offline=offline)


def find_recording(config: Config) -> Recording | None:
    """The results folder that a config trains on, read; None where images are drawn.

    Raises:
        UsageError: none is named, or it is none.
    """
    if config.source.kind != "recorded":
        return None
    if config.source.folder is None:
        raise UsageError("source.kind recorded needs a results folder of `dgpo eval`: source.folder, or --from DIR.")
    return read_recording(Path(config.source.folder), config.group_size)


def build_hooks(
    config: Config,
    rewards: RewardChoice,
    prompts: Sequence[Prompt],
    samples: Samples,
    evaluation: Evaluation | None,
    pool: ScoringPool,
    run: Run,
    ranks: Ranks,
) -> list[Hook]:
    """All that supervises a run, in the order of `supervision.hooks`."""
    canaries = Canaries(config.watch, rewards.trained, pool.submit, prompts=prompts, run=run, ranks=ranks)
    every = config.evaluation.every if evaluation is not None else 0
    return [
        canaries,
        AlarmHook(config.watch, rewards.trained, config.max_failed, canaries),
        Checkpoints(),
        samples,
        *([] if evaluation is None else [HeldOut(every, evaluation.measure, evaluation.figures)]),
        Curve(config.samples.every, every),
        GuardHook([parse_guard(text) for text in config.evaluation.stop_when]),
    ]


def _train(trainer: Trainer, stop_asked: Callable[[], bool], *, resume: bool) -> Outcome:
    config, folder = trainer.config, trainer.run.folder
    try:
        trainer.train(resume=resume, stop_asked=stop_asked)
    except Interrupted:
        sentence = f"stopped and saved at step {trainer.progress.step}; the same command goes on from there"
        return Outcome("interrupted", sentence, trainer.progress.step, folder)
    except GuardTripped as reason:
        sentence = (
            f"{reason} It is saved at step {trainer.progress.step} of {config.steps}; the same command with"
            " another --stop-when, or none, goes on from there"
        )
        return Outcome("guarded", sentence, trainer.progress.step, folder)
    done = trainer.progress.step
    if done > config.steps:
        asked = f"--steps {config.steps}"
        sentence = f"{folder} has trained {done} iterations already, so there was nothing to do for {asked}"
    else:
        sentence = f"trained {done} iterations; see {folder / 'curve.png'} and {folder / 'samples'}"
    return Outcome("finished", sentence, done, folder)


def _settle_precision(config: Config, run: Run, ranks: Ranks, *, fresh: bool) -> Settled:
    """In which precision the run computes, decided by the main rank; one that is continued keeps its own."""
    settled = None
    if ranks.main:
        earlier = AUTO if fresh else run.precision
        settled = settle(config.training.dtype, examine(ranks.device), earlier=earlier, since="as this run began")
    return ranks.gather([settled])[0]


def _settle_checkpointing(
    config: Config, run: Run, ranks: Ranks, tell: Callable[[str], None], *, fresh: bool
) -> Config:
    """Whether activations are recomputed, decided by the main rank; a run that is continued keeps to what it did."""
    chosen = None
    if ranks.main:
        chosen = AUTO if fresh else run.checkpointing
        if chosen == AUTO:
            chosen, sentence = _plan_checkpointing(config, ranks)
            tell(sentence)
    chosen = ranks.gather([chosen])[0]
    return config.model_copy(update={"training": config.training.model_copy(update={"checkpointing": chosen})})


def _plan_checkpointing(config: Config, ranks: Ranks) -> tuple[bool, str]:
    """By the plan of memory; where there can be none, the choice that takes least."""
    with hushed_loading():
        try:
            model = load_outline(config)
            if model is not None:
                plan = Footprint(model, config, ranks=ranks.size, gpu=ranks.device.type == "cuda")
                sentence = plan.settle_checkpointing(room_of(ranks.device, ranks.place.local_size))
                return plan.config.training.checkpointing is True, sentence
        except FAULTS as error:
            return True, f"activations are recomputed: memory cannot be planned for {config.model} ({error})"
    return True, f"activations are recomputed: memory cannot be planned for {config.model}"


def _begin(
    run: Run,
    config: Config,
    ranks: Ranks,
    facts: Mapping[str, Any],
    prompts: Sequence[Prompt],
    tell: Callable[[str], None],
    *,
    fresh: bool,
) -> bool:
    """Open the run folder on the main rank; every rank sees it and learns whether it continues."""
    continues, record = None, ""
    if ranks.main:
        before = {} if fresh else read_facts(run.folder)
        continues = run.begin(config, facts, fresh=fresh, on_note=tell)
        write_training_prompts(run.folder, (prompt.text for prompt in prompts))
        tell(f"{'continuing' if continues else 'training'} in {run.folder}; {describe_passes(facts['passes'])}")
        for sentence in tell_changes(before, facts) if continues else ():
            tell(sentence)
        record = sha256(run.folder / "run.json")
    continues, record = ranks.gather([(continues, record)])[0]
    check_shared(run.folder / "run.json", record)
    return bool(continues)
