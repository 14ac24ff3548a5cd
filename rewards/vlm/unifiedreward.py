"""UnifiedReward (Wang et al. 2025, arXiv 2503.05236): a vision-language model that writes a score from 1 to 5.

The model answers on this machine, from a folder of its weights, or behind any OpenAI-compatible server (judge=URL);
both are asked the same question and their replies are read alike.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rewards.card import Card
from rewards.drawn_word import ask_for, draw_word
from rewards.errors import DgpoError, ScoringError, SetupError, UsageError
from rewards.finding import Finding
from rewards.images import rgb
from rewards.prompt import Prompt
from rewards.reward import Reward
from rewards.score import Score
from rewards.spec import RewardSpec
from rewards.vlm.questions import ask
from rewards.vlm.reply import Reply, read_axes, read_final, read_published

if TYPE_CHECKING:
    from PIL.Image import Image

INDEX = "model.safetensors.index.json"
_THREE_SCORES = ("words", "three-scores")
_PUBLISHED_SIDE = 512


class Backend(Protocol):
    """Who answers: one reply per image, in order, or the error why there is none."""

    def ask(self, images: "Sequence[Image]", questions: Sequence[str]) -> Sequence[Reply | DgpoError]: ...

    def provenance(self) -> dict[str, str]: ...


class UnifiedReward(Reward):
    """Asks one question about each image and reads the score in the reply.

    Raises:
        UsageError: options that contradict each other.
        SetupError: neither weights nor a judge, or they do not work.
    """

    large = ("backend",)

    def __init__(self, spec: RewardSpec, card: Card) -> None:
        self.options = card.settle_options(spec.options)
        self.published = self.options["protocol"] == "published"
        if self.published and self.options["question"] in _THREE_SCORES:
            raise UsageError("protocol=published reads 'Final Score', which question=pointwise and elements ask for.")
        super().__init__(spec, card)
        self.remote = self.options["judge"] != "none"
        _ = self.backend  # what is missing is said now

    @cached_property
    def backend(self) -> Backend:
        return Served(self.spec, self.options) if self.remote else Local(self.spec, self.card, self.options)

    def score(self, images: "Sequence[Image]", prompts: Sequence[Prompt]) -> list[Score]:
        shown = [_squash(image) for image in images] if self.published else images
        questions = [ask(self.options["question"], prompt.text) for prompt in prompts]
        return [self._read(reply) for reply in self.backend.ask(shown, questions)]

    def verify(self) -> None:
        """Show one picture of a word, and see that a score comes back."""
        (score,) = self.score([draw_word()], [ask_for()])
        if not score.ok:
            said = f' It wrote: "{score.detail}"' if score.detail else ""
            raise SetupError(
                f"{self.spec.key} was shown a sign and gave no score: {score.reason}.{said} Does the option question "
                f"({self.options['question']}) belong to this model?"
            )

    def self_checks(self, pictures: Path | None) -> list[Finding]:
        """Whether a model that answers in words writes a score under a picture at all."""
        try:
            self.verify()
        except SetupError as error:
            return [Finding(self.spec.key, "reply", "failed", str(error))]
        who = f"the model {self.provenance()['weights']}" if self.remote else "the model"
        return [Finding(self.spec.key, "reply", "ok", f"{who} was shown a drawn sign and wrote a score")]

    def provenance(self) -> dict[str, str]:
        return self.backend.provenance()

    def _read(self, reply: Reply | DgpoError) -> Score:
        if isinstance(reply, DgpoError):
            return Score.failed(str(reply))
        if self.published:
            return read_published(reply)
        if self.options["question"] in _THREE_SCORES:
            return read_axes(reply, self.options["axis"])
        return read_final(reply)


class Local:
    """A folder of weights on this machine."""

    def __init__(self, spec: RewardSpec, card: Card, options: dict[str, str]) -> None:
        from rewards.networks.device import DTYPES, pick_device
        from rewards.vlm.local import share_answerer
        from rewards.weights.checkpoint import list_shards
        from rewards.weights.folder import locate

        self.tokens = _read_count("max_new_tokens", options)
        self.double = options["double_image_token"] == "true"
        files = locate(card, spec.weights)
        index = files[INDEX].absolute()
        self.device, self.dtype = pick_device(options["device"]), options["dtype"]
        self.answerer = share_answerer(index, DTYPES[self.dtype], self.device)
        if self.double and not self.answerer.takes_double_image_token:
            raise UsageError("double_image_token=true is for llava_qwen folders (UnifiedReward-7b and -7b-v1.5).")
        self.files = {name: path for name, path in files.items() if name != INDEX} | list_shards(index)
        if index.name == INDEX:
            self.files[INDEX] = index

    def ask(self, images: "Sequence[Image]", questions: Sequence[str]) -> list[Reply | DgpoError]:
        return [self._answer(image, question) for image, question in zip(images, questions, strict=True)]

    def _answer(self, image: "Image", question: str) -> Reply | DgpoError:
        try:
            return self.answerer.answer(image, question, self.tokens, self.double)
        except ScoringError as error:
            return error

    def provenance(self) -> dict[str, str]:
        import transformers

        from rewards.weights.folder import checksums

        return {
            "engine": "transformers",
            "engine_version": transformers.__version__,
            "weights": checksums(self.files),
            "device": str(self.device),
            "dtype": self.dtype,
            "decoding": "greedy, repetition_penalty 1.0",
        }


class Served:
    """A model behind a server; which weights it has is for whoever started it to say."""

    def __init__(self, spec: RewardSpec, options: dict[str, str]) -> None:
        from rewards.vlm.judge import PATIENCE_S, Judge

        if spec.weights is not None:
            raise UsageError(
                f"{spec.name} is given a judge and a folder of weights; the judge has its own: leave out --weights."
            )
        deadline_s = _read_count("deadline", options)
        self.judge = Judge(
            options["judge"],
            options["model"],
            concurrency=_read_count("concurrency", options),
            max_new_tokens=_read_count("max_new_tokens", options),
            deadline_s=deadline_s,
            image_in_text=options["double_image_token"] == "true",
        )
        self.judge.greet(min(PATIENCE_S, deadline_s))

    def ask(self, images: "Sequence[Image]", questions: Sequence[str]) -> Sequence[Reply | DgpoError]:
        return self.judge.ask(images, questions)

    def provenance(self) -> dict[str, str]:
        return {
            "engine": "openai-compatible",
            "engine_version": self.judge.answered_by,
            "weights": f"served by {self.judge.url}",
            "decoding": "temperature 0, no repetition penalty asked for",
        }


def _squash(image: "Image") -> "Image":
    """As the released client does, whatever the aspect; an empty image is left to whoever answers."""
    if 0 in image.size:
        return image
    return rgb(image).resize((_PUBLISHED_SIDE, _PUBLISHED_SIDE))


def _read_count(name: str, options: dict[str, str]) -> int:
    text = options[name]
    if not (text.isdecimal() and int(text) > 0):
        raise UsageError(f'The option {name} of the reward unifiedreward is a whole number from 1 on, not "{text}".')
    return int(text)
