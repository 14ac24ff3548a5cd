"""HPS v2.1 (Wu et al. 2023, arXiv 2306.09341): the cosine of image and prompt in a CLIP-H/14 tuned on preferences.

The published file holds open_clip's names and half precision; it is computed in fp32, as the reference does on a CPU.
Tables of the authors print the score times 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL.Image import Image

from rewards.card import Card
from rewards.errors import SetupError, load_extra
from rewards.networks.device import exactly
from rewards.networks.features import Features, Memory
from rewards.networks.preprocess import pad_longest
from rewards.networks.reward import NetworkReward
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.shared import shared
from rewards.spec import RewardSpec
from rewards.weights.checkpoint import load_strictly, read_config, read_state

CHECKPOINT, CONFIG = "HPS_v2.1_compressed.pt", "open_clip_config.json"
PUBLISHED = "ViT-H-14"
TEXTS = 64


class HPSv2(NetworkReward):
    """The published network with the published arithmetic; only the first 75 tokens of a prompt count."""

    large = ("_towers",)
    engine = "open_clip"

    def __init__(self, spec: RewardSpec, card: Card) -> None:
        super().__init__(spec, card)
        _ = self._towers  # what is wrong with the files is said now

    @cached_property
    def _towers(self) -> Towers:
        config = self.files.get(CONFIG)
        return _load(self.files[CHECKPOINT].resolve(), config and config.resolve(), self.dtype, self.device)

    @property
    def _features(self) -> Features:
        return self._towers.features(antialias=self.options["antialias"] == "true")

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        if not images:
            return []
        texts = list(dict.fromkeys(prompt.text for prompt in prompts))
        rows = {text: row for row, text in enumerate(texts)}
        with exactly(self.device):
            image_BE = self._features.of(images)
            text_BE = self._towers.encode_texts(texts)[[rows[prompt.text] for prompt in prompts]]
            return [Score(value) for value in (image_BE * text_BE).sum(dim=1).clamp(-1, 1).tolist()]


class Towers:
    """open_clip's CLIP of one set of files, dtype and device; its features have length 1 and are fp32.

    The network stays mapped on disk until the first score.
    """

    def __init__(self, network: Any, dtype: torch.dtype, device: torch.device) -> None:
        self._network, self.dtype, self.device = network, dtype, device
        tokenizer = load_extra("open_clip.tokenizer", "openclip").SimpleTokenizer
        self.tokenizer = tokenizer(context_length=network.context_length)
        self.memory = Memory()
        self._kept: dict[bool, Features] = {}

    @cached_property
    def network(self) -> Any:
        return self._network.to(self.device, self.dtype)

    def features(self, *, antialias: bool) -> Features:
        """Of images; shared by all who resize them alike."""
        if antialias not in self._kept:
            prepare = partial(pad_longest, size=self._network.visual.image_size[0], antialias=antialias)
            self._kept[antialias] = Features(prepare, self._encode, memory=self.memory)
        return self._kept[antialias]

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Unit vectors [B, E] of texts; longer ones are cut to the context, the end mark staying."""
        network = self.network.eval()
        ids = self.tokenizer(list(texts)).to(self.device)
        return torch.cat([_unit(network.encode_text(part)) for part in ids.split(TEXTS)])

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return _unit(self.network.eval().encode_image(pixels.to(self.device, self.dtype)))


@shared
def _load(checkpoint: Path, config: Path | None, dtype: torch.dtype, device: torch.device) -> Towers:
    network = build(checkpoint, config)
    state = read_state(checkpoint).get("state_dict")
    if not isinstance(state, dict):
        raise SetupError(f'{checkpoint} has no "state_dict": it is not the published file of HPS v2.1.')
    _refuse_other_size(network, state, checkpoint, config)
    load_strictly(network, state, checkpoint)
    return Towers(network, dtype, device)


def build(checkpoint: Path, config: Path | None) -> Any:
    """open_clip's CLIP on the meta device, as `config` describes it, or else the published size.

    Raises:
        SetupError: open_clip is not installed, or `config` describes no plain CLIP.
    """
    open_clip = load_extra("open_clip", "openclip")
    sizes = read_sizes(config) if config else open_clip.get_model_config(PUBLISHED)
    try:
        with torch.device("meta"):
            network = open_clip.CLIP(**sizes)
    except (TypeError, ValueError, AttributeError, AssertionError) as error:
        raise SetupError(f"{config} does not describe a CLIP that open_clip can build ({error}).") from error
    if network.attn_mask is not None:  # made by the constructor, so it has no values on the meta device
        network.attn_mask = torch.full(network.attn_mask.shape, -torch.inf).triu(1)
    if len(set(network.visual.image_size)) != 1:
        raise SetupError(f"{config}: images of {network.visual.image_size} are not square, as HPS v2.1 takes them.")
    return network


def read_sizes(path: Path) -> dict[str, Any]:
    """open_clip's description of a network: bare, or under "model_cfg" as in the hub's folders.

    Raises:
        SetupError: not such a description, or one of towers from other libraries.
    """
    config = read_config(path)
    config = config.get("model_cfg", config)
    towers = [config[name] for name in ("vision_cfg", "text_cfg") if isinstance(config.get(name), dict)]
    if "embed_dim" not in config or len(towers) < 2:
        raise SetupError(f"{path} needs embed_dim, vision_cfg and text_cfg, as open_clip writes them.")
    foreign = [name for tower in towers for name in tower if name.startswith(("timm_", "hf_"))]
    if foreign:
        raise SetupError(f"{path} asks for towers of other libraries ({', '.join(foreign)}); HPS v2.1 has none.")
    return config


def _refuse_other_size(network: Any, state: dict[str, torch.Tensor], checkpoint: Path, config: Path | None) -> None:
    """Say it in one sentence when the whole network is of another size than the file."""
    wanted = network.state_dict()
    key = "visual.positional_embedding"
    given = state.get(key)
    if given is not None and given.shape != wanted[key].shape:
        described = f"{config} describes" if config else f"{PUBLISHED}, taken where no {CONFIG} lies beside it, has"
        raise SetupError(
            f"{checkpoint} is of another size than its description: its {key} is {list(given.shape)}, {described} "
            f"{list(wanted[key].shape)}. Put the {CONFIG} that belongs to it into its folder."
        )


def _unit(features: torch.Tensor) -> torch.Tensor:
    return F.normalize(features.float(), dim=-1)
