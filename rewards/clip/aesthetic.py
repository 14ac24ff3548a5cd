"""LAION's aesthetic predictor (Schuhmann 2022, sac+logos+ava1-l14-linearMSE): a linear head on CLIP's image features.

score = head(e / |e|) with e the projected feature of the image; about 1 to 10, neither cut off nor rescaled. The head
is linear layers with nothing between them at inference, so it is one affine map; it stays fp32.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL.Image import Image
from torch.nn.functional import normalize

from rewards.card import Card
from rewards.clip.reward import ClipReward
from rewards.errors import SetupError
from rewards.networks.device import exactly
from rewards.networks.preprocess import Way
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.spec import RewardSpec
from rewards.weights.checkpoint import load_strictly, read_state

_WEIGHT = re.compile(r"layers\.(\d+)\.weight")


class Aesthetic(ClipReward):
    folder = "clip/"

    def __init__(self, spec: RewardSpec, card: Card) -> None:
        super().__init__(spec, card)
        self.head = load_head(self.files[card.files[0].path], self.tower.width)
        original = self.options["order"] == "resize-first"
        self.way = Way("resize-first", self.tower.image_size) if original else self.published_way

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        if not images:
            return []
        features_ND = self.tower.image_features(images, self.way)
        with exactly(self.device):
            scores_N = self.head.to(self.device).eval()(normalize(features_ND)).squeeze(1)
        return [Score(value) for value in scores_N.tolist()]


class Head(torch.nn.Module):
    """Linear layers one after another, [N, widths[0]] to [N, 1]; `widths` of each by its number in the checkpoint."""

    def __init__(self, widths: dict[int, tuple[int, int]]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleDict({str(index): torch.nn.Linear(*widths[index]) for index in sorted(widths)})

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        for layer in self.layers.values():
            features = layer(features)
        return features


def load_head(path: Path, width: int) -> Head:
    """The head of a checkpoint whose layers say how wide they are, in fp32.

    Raises:
        SetupError: it does not lead from `width` features to one score.
    """
    state = read_state(path)
    shapes = {int(match[1]): state[key].shape for key in state if (match := _WEIGHT.fullmatch(key))}
    widths = {index: (shape[1], shape[0]) for index, shape in sorted(shapes.items()) if len(shape) == 2}
    steps = list(widths.values())
    ends = [width, *(end for _, end in steps)]
    if not steps or [start for start, _ in steps] != ends[:-1] or ends[-1] != 1:
        chain = ", ".join(f"{start} to {end}" for start, end in steps) or "none"
        raise SetupError(
            f"{path} does not lead from the {width} features of this CLIP to one score (its layers: {chain}); "
            "take the predictor and the CLIP that it was trained on."
        )
    with torch.device("meta"):
        head = Head(widths)
    load_strictly(head, state, path)
    return head.float()
