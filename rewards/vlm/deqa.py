"""DeQA-Score (You et al. 2025, arXiv 2501.11561): how good an image looks technically, whatever it shows.

mPLUG-Owl2 is asked about the image's quality and would go on with one of five words; the score is the mean of 5, 4, 3,
2 and 1 by their probabilities among the five. The question is the same for every image, and so are its tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image

from rewards.card import Card
from rewards.errors import SetupError, load_extra
from rewards.networks.device import exactly
from rewards.networks.features import Features, Memory
from rewards.networks.mplug_owl2.network import MplugOwl2
from rewards.networks.mplug_owl2.sizes import read_sizes
from rewards.networks.preprocess import Way, as_jpeg, read_way, squared
from rewards.networks.reward import NetworkReward
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.shared import shared
from rewards.spec import RewardSpec
from rewards.weights.checkpoint import list_shards, load_strictly, read_config, read_shards

BEFORE = "USER: How would you rate the quality of this image?\n"
AFTER = "\nASSISTANT: The quality of the image is"
PREFIX = "The quality of the image is"
LEVELS = ("excellent", "good", "fair", "poor", "bad")
POINTS = (5.0, 4.0, 3.0, 2.0, 1.0)
INDEX = "model.safetensors.index.json"
FILES = (INDEX, "config.json", "tokenizer.model", "preprocessor_config.json")
_BATCH = 16


class Deqa(NetworkReward):
    """The published network with the published question; scores are raw, from 1 to 5."""

    large = ("_judge",)

    def __init__(self, spec: RewardSpec, card: Card) -> None:
        super().__init__(spec, card)
        index, config, tokenizer, preprocessor = (self.files[name].absolute() for name in FILES)
        if index.name != INDEX:  # one file, not cut into shards
            del self.files[INDEX]
        self.files |= list_shards(index)
        self._sources = index, config, tokenizer, preprocessor
        _ = self._judge  # what is wrong with the files is said now

    @cached_property
    def _judge(self) -> Judge:
        return _load(*self._sources, self.dtype, self.device)

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        if not images:
            return []
        with exactly(self.device):
            logits_B5 = self._judge.features[self.options["transport"]].of(images)
            return [Score(value) for value in read_out(logits_B5).tolist()]


def read_out(logits_B5: torch.Tensor) -> torch.Tensor:
    """Mean points [B] by the probabilities of the five words among themselves."""
    return logits_B5.softmax(-1) @ torch.tensor(POINTS, device=logits_B5.device)


@dataclass(frozen=True)
class Question:
    """Token ids of what stands before the image and behind it, and of the five words that may follow."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    levels: tuple[int, ...]


class Judge:
    """Network, question and kept logits of one set of files, dtype and device.

    The network stays mapped on disk until the first score, so that a process which only checks that the reward can be
    built reads none of it.
    """

    def __init__(
        self, network: MplugOwl2, question: Question, way: Way, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._network, self.question, self.dtype, self.device = network, question, dtype, device
        see, memory = partial(squared, size=way.size, mean=way.mean, std=way.std), Memory()
        self.features = {
            "lossless": Features(see, self._encode, batch=_BATCH, memory=memory),
            "jpeg75": Features(lambda image: see(as_jpeg(image)), self._encode, batch=_BATCH, memory=memory),
        }

    @cached_property
    def network(self) -> MplugOwl2:
        """On its device and in the wanted dtype."""
        self._network.place(self.device, self.dtype)
        return self._network

    @cached_property
    def text(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings [1, T, D] of the question's two parts."""
        parts = (self._network.embed_text(torch.tensor(ids)) for ids in (self.question.before, self.question.after))
        before, after = (part.to(self.device, self.dtype) for part in parts)
        return before, after

    @cached_property
    def words(self) -> torch.Tensor:
        """The head's rows [5, D] of the five words, in fp32."""
        return self._network.lm_head.weight[list(self.question.levels)].to(self.device, torch.float32)

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits [B, 5] of the five words, in fp32."""
        network, (before, after) = self.network.eval(), self.text
        image = network.embed_image(pixels.to(self.device, self.dtype))
        return network.read(before, image, after).float() @ self.words.T


@shared
def _load(
    index: Path, config: Path, tokenizer: Path, preprocessor: Path, dtype: torch.dtype, device: torch.device
) -> Judge:
    settings = read_config(config)
    sizes = read_sizes(settings, config)
    way = read_way(preprocessor)
    if way.size != sizes.vision.size or settings.get("image_aspect_ratio", "pad") != "pad":
        raise SetupError(
            f"{preprocessor} asks for {way.size} pixels, and {config} for {sizes.vision.size} and image_aspect_ratio "
            f"{settings.get('image_aspect_ratio', 'pad')!r}, which should be pad; take both from one place."
        )
    question = read_question(tokenizer, settings, config)
    with torch.device("meta"):
        network = MplugOwl2(sizes)
    state = read_shards(index)
    load_strictly(network, state, index, {key for key in state if key.endswith(".rotary_emb.inv_freq")})
    return Judge(network, question, way, dtype, device)


def read_question(tokenizer: Path, config: Mapping[str, Any], source: Path) -> Question:
    """The question in the tokens of a SentencePiece model.

    Text before and behind the image is tokenised apart, as in the original: the second part begins with the lone space
    that SentencePiece puts in front of a text, and without the token that begins a text.

    Args:
        config: holds, in published checkpoints, the ids that training used; ours have to be the same.
        source: where `config` comes from, for messages.

    Raises:
        SetupError: the file is no SentencePiece model, or not that of the checkpoint.
    """
    pieces = _read_tokenizer(tokenizer)
    before, after, prefix, *levels = pieces.encode([BEFORE, AFTER, PREFIX, *LEVELS])
    question = Question((pieces.bos_id(), *before), tuple(after), tuple(ids[0] for ids in levels))
    for name, ids in (("level_ids", list(question.levels)), ("level_prefix", prefix)):
        if config.get(name, ids) != ids:
            raise SetupError(
                f"{tokenizer} gives {ids} where {source} says {name}: {config[name]}; take both from one place."
            )
    rows = config["vocab_size"]
    if max(*question.before, *question.after, *question.levels) >= rows:
        raise SetupError(f"{tokenizer} has more words than the {rows} of {source}; take both from one place.")
    return question


def _read_tokenizer(path: Path) -> Any:
    processor = load_extra("sentencepiece", "vlm").SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(path.read_bytes())
    except RuntimeError as error:
        raise SetupError(f"{path} is no SentencePiece model; delete it and fetch it again.") from error
    return processor
