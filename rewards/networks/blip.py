"""BLIP as a judge: a ViT, a BERT that looks at its tokens, and a small MLP (ImageReward, arXiv 2304.05977).

Module names are those of the published checkpoint, which therefore loads without renaming. Nothing here is random or
dropped out: the network is for scoring only.

Shapes: B pairs, I image tokens (one, then the patches), T text tokens, V and D the widths of the ViT and of BERT.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from rewards.errors import SetupError, suggestion

VISION_HEAD_WIDTH = 64
VISION_EPS = 1e-6
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


@dataclass(frozen=True)
class BlipShape:
    """Every size of the network; `reward_widths` maps the index of each linear layer of the MLP to its (in, out)."""

    patch: int
    image_tokens: int
    vision_width: int
    vision_layers: int
    vision_mlp: int
    vocabulary: int
    positions: int
    text_width: int
    text_layers: int
    text_mlp: int
    text_heads: int
    text_eps: float
    activation: str
    reward_widths: tuple[tuple[int, tuple[int, int]], ...]

    @property
    def image_size(self) -> int:
        return self.patch * math.isqrt(self.image_tokens - 1)

    @property
    def vision_heads(self) -> int:
        return self.vision_width // VISION_HEAD_WIDTH


def infer_shape(state: Mapping[str, torch.Tensor], config: Mapping[str, object], source: Path) -> BlipShape:
    """Sizes from the checkpoint's tensors; heads, eps and activation of BERT from med_config.json.

    The config's encoder_width is not looked at: the published file says 768 where the network has 1024. Its sizes that
    mean something have to agree with the checkpoint.

    Args:
        source: the checkpoint's path, for messages.

    Raises:
        SetupError: the file is no ImageReward checkpoint, or the config belongs to another.
    """
    vision, text = "blip.visual_encoder.", "blip.text_encoder."
    image_tokens = _sizes(state, f"{vision}pos_embed", 3, source)[1]
    patch = _sizes(state, f"{vision}patch_embed.proj.weight", 4, source)
    vocabulary, text_width = _sizes(state, f"{text}embeddings.word_embeddings.weight", 2, source)
    shape = BlipShape(
        patch=patch[2],
        image_tokens=image_tokens,
        vision_width=patch[0],
        vision_layers=_count(state, f"{vision}blocks"),
        vision_mlp=_sizes(state, f"{vision}blocks.0.mlp.fc1.weight", 2, source)[0],
        vocabulary=vocabulary,
        positions=_sizes(state, f"{text}embeddings.position_embeddings.weight", 2, source)[0],
        text_width=text_width,
        text_layers=_count(state, f"{text}encoder.layer"),
        text_mlp=_sizes(state, f"{text}encoder.layer.0.intermediate.dense.weight", 2, source)[0],
        text_heads=int(_fact(config, "num_attention_heads", (int,), source)),
        text_eps=float(_fact(config, "layer_norm_eps", (int, float), source)),
        activation=str(_fact(config, "hidden_act", (str,), source)),
        reward_widths=_reward_widths(state, source),
    )
    _refuse_impossible(shape, source)
    _refuse_foreign_config(shape, config, source)
    return shape


class RewardNetwork(nn.Module):
    """ImageReward's network; `vision_proj` and `text_proj` of the checkpoint take no part in the score."""

    def __init__(self, shape: BlipShape) -> None:
        super().__init__()
        self.shape = shape
        self.blip = nn.ModuleDict({"visual_encoder": VisionEncoder(shape), "text_encoder": TextEncoder(shape)})
        self.mlp = RewardHead(shape)

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [B, 3, size, size] to image tokens [B, I, V]."""
        return self.blip["visual_encoder"](pixels)

    def score(self, image_BIV: torch.Tensor, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        """Raw rewards [B] in fp32; mask is True where a token counts. The towers may be of another dtype."""
        first_BD = self.blip["text_encoder"](ids_BT, mask_BT, image_BIV)[:, 0]
        return self.mlp(first_BD.float()).squeeze(1)


class VisionEncoder(nn.Module):
    """Pre-norm ViT; its output is every token, normalised."""

    def __init__(self, shape: BlipShape) -> None:
        super().__init__()
        width = shape.vision_width
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, shape.image_tokens, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, shape.patch, shape.patch)})
        self.blocks = nn.ModuleList(VisionBlock(shape) for _ in range(shape.vision_layers))
        self.norm = nn.LayerNorm(width, VISION_EPS)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class VisionBlock(nn.Module):
    def __init__(self, shape: BlipShape) -> None:
        super().__init__()
        width = shape.vision_width
        self.heads = shape.vision_heads
        self.norm1, self.norm2 = nn.LayerNorm(width, VISION_EPS), nn.LayerNorm(width, VISION_EPS)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, shape.vision_mlp), "fc2": nn.Linear(shape.vision_mlp, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = self.attn["qkv"](self.norm1(x)).chunk(3, dim=-1)
        x = x + self.attn["proj"](attend(query, key, value, self.heads))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class TextEncoder(nn.Module):
    """BERT that attends in both directions to its text and, in every layer, to the image tokens."""

    def __init__(self, shape: BlipShape) -> None:
        super().__init__()
        width = shape.text_width
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(shape.vocabulary, width),
                "position_embeddings": nn.Embedding(shape.positions, width),
                "LayerNorm": nn.LayerNorm(width, shape.text_eps),
            }
        )
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(TextLayer(shape) for _ in range(shape.text_layers))})

    def forward(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor, image_BIV: torch.Tensor) -> torch.Tensor:
        places = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        words = self.embeddings["word_embeddings"](ids_BT) + self.embeddings["position_embeddings"](places)
        x = self.embeddings["LayerNorm"](words)
        for layer in self.encoder["layer"].children():
            x = layer(x, mask_BT, image_BIV)
        return x


class TextLayer(nn.Module):
    """Self-attention, cross-attention and MLP, each added to its input and then normalised."""

    def __init__(self, shape: BlipShape) -> None:
        super().__init__()
        self.attention = TextAttention(shape, shape.text_width)
        self.crossattention = TextAttention(shape, shape.vision_width)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(shape.text_width, shape.text_mlp)})
        self.output = AddAndNorm(shape, shape.text_mlp)
        self.activate = ACTIVATIONS[shape.activation]

    def forward(self, x: torch.Tensor, mask_BT: torch.Tensor, image_BIV: torch.Tensor) -> torch.Tensor:
        x = self.attention(x, x, mask_BT[:, None, None, :])
        x = self.crossattention(x, image_BIV, None)
        return self.output(self.activate(self.intermediate["dense"](x)), x)


class TextAttention(nn.Module):
    """Attention of the text to `seen`, whose width is `seen_width`; the projections are called `self` in the file."""

    def __init__(self, shape: BlipShape, seen_width: int) -> None:
        super().__init__()
        width = shape.text_width
        self.heads = shape.text_heads
        self.self = nn.ModuleDict(
            {
                "query": nn.Linear(width, width),
                "key": nn.Linear(seen_width, width),
                "value": nn.Linear(seen_width, width),
            }
        )
        self.output = AddAndNorm(shape, width)

    def forward(self, x: torch.Tensor, seen: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        project = self.self
        mixed = attend(project["query"](x), project["key"](seen), project["value"](seen), self.heads, mask)
        return self.output(mixed, x)


class AddAndNorm(nn.Module):
    def __init__(self, shape: BlipShape, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, shape.text_width)
        self.LayerNorm = nn.LayerNorm(shape.text_width, shape.text_eps)

    def forward(self, x: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dense(x) + before)


class RewardHead(nn.Module):
    """Linear layers one after the other, nothing between them; the gaps in their numbers are the trainer's dropouts."""

    def __init__(self, shape: BlipShape) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({str(index): nn.Linear(*widths) for index, widths in shape.reward_widths})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Softmax attention [B, T, D] to [B, S, D] in `heads` slices of the width; mask is True where a key is seen."""
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2)


def _sizes(state: Mapping[str, torch.Tensor], key: str, dimensions: int, source: Path) -> torch.Size:
    tensor = state.get(key)
    if not isinstance(tensor, torch.Tensor):
        raise SetupError(f"{source} has no {key}: it is not an ImageReward checkpoint, or not a whole one.")
    if tensor.ndim != dimensions:
        raise SetupError(f"{source}: {key} has the shape {list(tensor.shape)}, and not {dimensions} dimensions.")
    return tensor.shape


def _count(state: Mapping[str, torch.Tensor], prefix: str) -> int:
    """Layers under `prefix`, by their highest number."""
    found = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", key) for key in state)
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _reward_widths(state: Mapping[str, torch.Tensor], source: Path) -> tuple[tuple[int, tuple[int, int]], ...]:
    found = (re.fullmatch(r"mlp\.layers\.(\d+)\.weight", key) for key in state)
    indices = sorted(int(match[1]) for match in found if match)
    if not indices:
        raise SetupError(f"{source} has no mlp.layers.*.weight: it is not an ImageReward checkpoint.")
    sizes = [(index, _sizes(state, f"mlp.layers.{index}.weight", 2, source)) for index in indices]
    return tuple((index, (inputs, outputs)) for index, (outputs, inputs) in sizes)


def _fact(config: Mapping[str, object], name: str, kinds: tuple[type, ...], source: Path) -> int | float | str:
    value = config.get(name)
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise SetupError(f"The med_config.json of {source} says {name}: {value!r}, which cannot be.")
    return value  # type: ignore[return-value]


def _refuse_impossible(shape: BlipShape, source: Path) -> None:
    problem = ""
    if math.isqrt(shape.image_tokens - 1) ** 2 != shape.image_tokens - 1:
        problem = f"{shape.image_tokens} image tokens are no square grid and one more"
    elif shape.vision_width % VISION_HEAD_WIDTH:
        problem = f"the vision width {shape.vision_width} does not divide into heads of {VISION_HEAD_WIDTH}"
    elif shape.text_heads < 1 or shape.text_width % shape.text_heads:
        problem = f"the text width {shape.text_width} does not divide into {shape.text_heads} heads"
    elif not _is_chain([widths for _, widths in shape.reward_widths], shape.text_width):
        problem = f"the layers of the MLP do not lead from {shape.text_width} to 1 ({dict(shape.reward_widths)})"
    elif shape.activation not in ACTIVATIONS:
        problem = f'the activation "{shape.activation}" is not known here.' + suggestion(shape.activation, ACTIVATIONS)
    if problem:
        raise SetupError(f"{source} with its med_config.json makes no network: {problem}")


def _is_chain(widths: list[tuple[int, int]], start: int) -> bool:
    return [start, *(made for _, made in widths)] == [*(given for given, _ in widths), 1]


def _refuse_foreign_config(shape: BlipShape, config: Mapping[str, object], source: Path) -> None:
    made = {
        "hidden_size": shape.text_width,
        "num_hidden_layers": shape.text_layers,
        "intermediate_size": shape.text_mlp,
    }
    for name, size in made.items():
        if config.get(name, size) != size:
            raise SetupError(
                f"The med_config.json of {source} says {name}: {config[name]}, the checkpoint has {size}; "
                "take both from one place."
            )
