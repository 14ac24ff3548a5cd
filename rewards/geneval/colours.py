"""The colour of an object: which of ten descriptions CLIP finds most like the object's crop.

Source: `color_classification` of evaluation/evaluate_images.py, github.com/djghosh13/geneval at
af4902f24d3ca90ebbb446dd9891a59e0f82725f, and clip_benchmark's zero-shot classifier, which it calls.

Shapes: N crops, C colours, T templates, D the width of CLIP's space.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from PIL.Image import Image
from torch.nn.functional import normalize

from rewards.clip.network import ClipTower, Tokenise
from rewards.clip.tokens import clean, find_tokenizer, share_tokens
from rewards.errors import load_extra
from rewards.geneval.objects import COLOURS
from rewards.networks.device import exactly
from rewards.networks.preprocess import Way
from rewards.shared import shared

TEMPLATES = ("a photo of a {colour} {name}", "a photo of a {colour}-colored {name}", "a photo of a {colour} object")
_SCALE = 100.0
_TOKENIZERS = {"tokenizer.json", "vocab.json"}


class Colours:
    """Classifies crops of objects by colour, all of a call in batches.

    A class is described in each colour by `TEMPLATES` ("a" before vowels too): a colour is the mean of the three unit
    vectors, made one unit long again. Crops are prepared as by open_clip: resized, then cut to the middle square, so
    that of a long object the ends do not count. Towers may run in half precision; similarities are fp32.

    Args:
        tokens: as OpenAI's CLIP was trained on them.
    """

    def __init__(self, tower: ClipTower, tokens: Tokenise) -> None:
        self.tower, self.tokens = tower, tokens
        self.way = Way("resize-first", tower.image_size)
        self._known: dict[str, torch.Tensor] = {}

    def classify(self, crops: Sequence[Image], names: Sequence[str]) -> list[str]:
        """The colour of each crop, which shows an object of the class `names` has at its place."""
        if not crops:
            return []
        logits_NC = self.logits(crops, names)
        return [COLOURS[index] for index in logits_NC.argmax(1).tolist()]

    def logits(self, crops: Sequence[Image], names: Sequence[str]) -> torch.Tensor:
        """100 times the cosine of each crop and each colour of its class: fp32 [N, C]."""
        self._learn(dict.fromkeys(names))
        crops_ND = self.tower.image_features(crops, self.way)
        with exactly(self.tower.device):
            colours_NCD = torch.stack([self._known[name] for name in names])
            return _SCALE * torch.einsum("nd,ncd->nc", normalize(crops_ND, dim=-1), colours_NCD)

    def _learn(self, names: dict[str, None]) -> None:
        """The vectors [C, D] of the colours of classes that were not asked for before."""
        new = [name for name in names if name not in self._known]
        if not new:
            return
        texts = [text for name in new for text in describe_colours(name)]
        texts_ND = self.tower.text_features(texts, self.tokens)
        with exactly(self.tower.device):
            each_CTD = normalize(texts_ND, dim=-1).unflatten(0, (-1, len(COLOURS), len(TEMPLATES)))
            self._known.update(zip(new, normalize(each_CTD.mean(2), dim=-1), strict=True))


def describe_colours(name: str) -> list[str]:
    """The descriptions of a class in all colours, those of one colour together.

    >>> describe_colours("cup")[3:5]
    ['a photo of a orange cup', 'a photo of a orange-colored cup']
    """
    return [template.format(colour=colour, name=name) for colour in COLOURS for template in TEMPLATES]


@shared
def share_colours(tower: ClipTower, tokens: Tokenise) -> Colours:
    """One classifier for equal arguments in this process, as its descriptions need not be encoded twice."""
    return Colours(tower, tokens)


def find_tokens(files: Sequence[Path], tower: ClipTower, *, hub: bool) -> Tokenise:
    """OpenAI's tokens, by the tokenizer among `files`; a network in open_clip's format (not `hub`) may come without.

    Raises:
        SetupError: there is none, or ftfy or open_clip is not installed.
    """
    clean("")  # says now, not at the first image, that ftfy is missing
    if hub or any(file.name in _TOKENIZERS for file in files):
        return share_tokens(find_tokenizer(files), tower.text_length).openai
    return _open_clip_tokens(tower.text_length)


@cache
def _open_clip_tokens(length: int) -> Callable[[Sequence[str]], torch.Tensor]:
    """open_clip carries OpenAI's vocabulary in its wheel."""
    tokenizer = load_extra("open_clip.tokenizer", "openclip").SimpleTokenizer(context_length=length)
    return lambda texts: tokenizer(list(texts))
