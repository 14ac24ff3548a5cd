"""Sections of settings that several parts of a training read; each part is handed its own. Imports no torch.

Every field has its meaning in words; an unknown key or an impossible value is refused.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dgpo.precision import AUTO, Quantize, Wanted
from rewards.parse import anchor
from rewards.reward import DEADLINE_S

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
# More than any machine does in a lifetime; beyond, libraries stop counting.
LARGEST = 1_000_000_000
Count = Annotated[int, Field(ge=1, le=LARGEST)]
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


class Training(Section):
    method: Literal["lora", "full"] = "lora"
    """Train low-rank adapters, or all of the transformer's weights."""
    rank: Annotated[int, Field(ge=1, le=4096)] = 64
    """Rank of the adapters; no layer of a transformer has use for more than its width."""
    alpha: Count = 128
    """Scale of the adapters: their product is multiplied by alpha / rank."""
    modules: tuple[str, ...] = ()
    """Module names that get adapters; empty means the eight joint-attention projections."""
    dtype: Wanted = AUTO
    """Precision of the forward passes; trained weights and optimiser stay in fp32. `auto` is bf16 where the machine
    computes in it itself, fp32 elsewhere; fp16 is for drawing only."""
    checkpointing: bool | Literal["auto"] = False
    """Recompute activations in the backward pass: less memory, one more forward. `auto` does where the memory plan
    (`--dry-run`) says that the device has no room for them; a run keeps what it began with."""
    quantize: Quantize = "none"
    """Hold the network's frozen weights in 8 bits (torchao) or, on a GPU, in 4 (bitsandbytes); for adapters only. What
    it draws is a little different from what the whole model draws."""
    offload: bool = False
    """The network's frozen weights wait in host memory while text encoders are on the GPU; for adapters only."""

    @model_validator(mode="after")
    def _possible(self) -> "Training":
        for name, wanted in (("quantize", self.quantize != "none"), ("offload", self.offload)):
            if wanted and self.method == "full":
                raise ValueError(f"{name} is for weights that stay as they are, and method is full; take method=lora")
        if self.quantize != "none" and self.offload:
            raise ValueError("quantised weights do not wait in host memory; give quantize or offload, not both")
        return self


class Sampling(Section):
    sampler: Literal["euler", "dpm++", "dpm2"] = "dpm++"
    """Deterministic ODE solver: Euler, DPM-Solver++ 2M on flow sigmas, or the same on Euler's table (`dpm2`)."""
    steps: Count = 10
    """Steps from noise to image."""
    guidance: Annotated[float, Field(ge=1)] = 4.5
    """Classifier-free guidance; 1 is off and saves half of the forwards."""
    height: Count | None = None
    """Pixels; none means the model's own size."""
    width: Count | None = None
    """Pixels; none means the model's own size."""
    text_length: Whole = 128
    """T5 tokens per prompt; ignored by a model without T5."""


class Rollout(Section):
    old_after: Whole | None = None
    """Draw with the old policy from this iteration on; none means with whom the algorithm draws, mostly the current."""
    noise: Literal["none", "sde", "cps", "sa"] | None = None
    """Noise that is added on the way: none (an ODE), Flow-GRPO's SDE, coefficient-preserving sampling (Flow-CPS), or
    that of SA-Solver, as AWM draws, whose steps have no likelihood. Unset means what the algorithm needs: sde for
    flow-grpo, none for others."""
    noise_level: NonNegative | None = None
    """How much noise; unset means 0.7 for sde, 0.8 for cps and 0.4 for sa, which alone can do with 0."""
    window: Count | None = None
    """How many consecutive steps add noise, the others being an ODE's (Flow-GRPO-Fast, MixGRPO); unset means all but
    the last."""
    window_range: tuple[Whole, Whole] | None = None
    """The steps within which the window lies, as first and one past the last; unset means the first half."""
    window_every: Whole = 0
    """Iterations after which the window moves on by a step (MixGRPO); 0 draws its place in every iteration."""
    micro_batch: Count = 16
    """Images drawn and decoded at once on a rank."""
    ahead: Annotated[int, Field(ge=0, le=1)] = 0
    """Draw this many iterations ahead, before the scores of the one in hand are waited for: for rewards that are slower
    than drawing. Each batch is then off policy by one iteration."""
    merge: Literal["auto", "always", "never"] = "auto"
    """Draw with the adapters added to the weights of their layers, which saves the products of the adapters in every
    pass. `auto` does where rounding changes at most a tenth of what they add: always in fp32, in bf16 once they have
    grown. Never where an algorithm compares the rollout's own likelihoods with those of training."""


class Source(Section):
    kind: Literal["online", "offline", "recorded"] = "online"
    """Where images come from: drawn by the policy as it is now; drawn by the untouched base in each iteration; or a
    results folder of `dgpo eval`."""
    folder: str | None = None
    """The results folder of a recorded source."""


class Advantage(Section):
    std: Literal["group", "batch"] = "group"
    """Divide by the deviation of each group, or of the whole batch."""
    epsilon: NonNegative = 1e-4
    """Added to the deviation."""
    clamp: Positive | None = 5.0
    """Advantages are limited to plus or minus this."""
    per_reward: bool = False
    """Standardise each reward of a mix within its group before the weighted sum; otherwise only the sum is."""
    gdpo: bool = False
    """Mix as GDPO does (Liu et al. 2026, arXiv 2601.05242): each reward is standardised within its group by the sample
    deviation, and their weighted sum over the whole batch; `std` and `per_reward` are not asked then."""


class Optimizer(Section):
    learning_rate: Positive = 3e-4
    """AdamW step size."""
    warm_up: Whole = 0
    """Optimiser steps over which the step size rises from zero."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """AdamW's averaging of gradients and of their squares."""
    weight_decay: NonNegative = 1e-4
    """AdamW's decoupled decay."""
    epsilon: Positive = 1e-8
    """Added to AdamW's denominator."""
    max_norm: Positive = 1.0
    """Gradients are scaled down to this norm."""
    micro_batch: Count = 16
    """Images a backward pass on a rank."""


class Averages(Section):
    evaluation_decay: Decay = 0.9
    """Largest decay of the average that is evaluated and published; 0 evaluates the trained weights themselves."""
    evaluation_every: Count = 8
    """Iterations between updates of that average."""


class Evaluation(Section):
    every: Whole = 0
    """Iterations between evaluations on held-out prompts; 0 is never."""
    prompts: Count = 32
    """How many of the suite's prompts."""
    seeds: Count = 1
    """Images per prompt."""
    suite: str | None = None
    """Suite that is evaluated during training; none means no evaluation unless the model brings its own."""
    steps: Count | None = None
    """Sampler steps in evaluation; none means as in the rollout."""
    guidance: Annotated[float, Field(ge=1)] | None = None
    """Guidance in evaluation; none means as in the rollout."""
    rewards: tuple[str, ...] = ()
    """Rewards that evaluations measure besides those trained on, written as for `--reward`."""
    stop_when: tuple[str, ...] = ()
    """Guards, as `--stop-when` takes them: the run ends when one of them is so after an evaluation."""

    @field_validator("rewards")
    @classmethod
    def _anchored(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(anchor(text) for text in texts)

    @property
    def on(self) -> bool:
        """Whether there is anything to evaluate, now and then."""
        return self.suite is not None and self.every > 0


class Watch(Section):
    canaries: Whole = 4
    """Pictures drawn by us that every reward scores at the start, alone and in batches, and again later; 0 is none."""
    canary_every: Whole = 25
    """Iterations between two looks at the canaries; there is one before every checkpoint besides."""
    drift: Literal["stop", "warn"] = "stop"
    """What follows when a canary's score is no longer what it was at the start of the run."""
    tolerance: Positive | None = None
    """By how much it may differ, relative to max(1, |score|); none means as each reward's card and precision say."""
    constant: Literal["stop", "warn", "off"] = "stop"
    """What follows when a reward gives every image the same score; one at its best possible value only warns."""
    constant_after: Count = 10
    """Iterations in a row after which that is so; it is warned of after half as many."""
    reward_seconds: Positive = DEADLINE_S
    """How long scoring a batch may take (a reward's first one an hour more, for its weights); then its images fail, and
    the scoring process is replaced. With workers=0 nothing is, as nothing can end what hangs in the training itself."""


class Every(Section):
    every: Whole = 50
    """Iterations between two of them; 0 is only at the end."""


class Checkpoint(Every):
    keep: Count | None = None
    """How many checkpoints are kept; when a new one is there, the oldest beyond that are removed. None keeps all."""
