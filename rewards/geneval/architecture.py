"""The sizes of a Mask2Former with a Swin backbone, from a file beside the checkpoint or known for the published one.

A checkpoint's shapes tell nearly all of it; what they cannot tell (how attention is cut into heads and points) has to
be said. Whatever they can tell is held against what was said.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from rewards.errors import SetupError

_STAGES = 4
PositiveInts = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]


class Swin(BaseModel):
    """The backbone: width of the first stage, then blocks and attention heads of each of the four stages."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embed_dim: PositiveInt
    depths: PositiveInts
    num_heads: PositiveInts
    window: PositiveInt
    mlp_ratio: PositiveInt


class Architecture(BaseModel):
    """What arch.json says, in mmdet's counts; `points` and `levels` have one value that transformers can run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    swin: Swin
    feature_size: PositiveInt
    mask_feature_size: PositiveInt
    hidden_dim: PositiveInt
    pixel_decoder_layers: PositiveInt
    pixel_decoder_ffn: PositiveInt
    decoder_layers: PositiveInt
    decoder_ffn: PositiveInt
    heads: PositiveInt
    points: Literal[4]
    levels: Literal[3]
    queries: PositiveInt
    classes: PositiveInt


SWIN_S = Architecture(
    swin=Swin(embed_dim=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24), window=7, mlp_ratio=4),
    feature_size=256,
    mask_feature_size=256,
    hidden_dim=256,
    pixel_decoder_layers=6,
    pixel_decoder_ffn=1024,
    decoder_layers=9,
    decoder_ffn=2048,
    heads=8,
    points=4,
    levels=3,
    queries=100,
    classes=80,
)
"""mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco, GenEval's detector."""


def read_architecture(path: Path) -> Architecture:
    """An arch.json.

    Raises:
        SetupError: it is no JSON, or says too little, too much or something impossible; names what.
    """
    try:
        return Architecture.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} is not JSON ({error}).") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise SetupError(f"{path} does not describe a Mask2Former ({wrong}).") from None


def check_architecture(said: Architecture, state: Mapping[str, torch.Tensor], checkpoint: Path, source: str) -> None:
    """Hold what was said against the shapes of a state dict that has mmdet 2.x names.

    Args:
        source: where `said` comes from, for the message.

    Raises:
        SetupError: they disagree; names each size that does.
    """
    claims = {**said.model_dump(exclude={"swin", "points", "levels"}), **said.swin.model_dump()}
    claims["heads"] = said.heads * said.points * said.levels
    measured = _measure(state)
    wrong = [
        f"{_WORDS.get(name, name)} {measured[name]} instead of {claims[name]}"
        for name in claims
        if measured[name] != claims[name]
    ]
    if wrong:
        raise SetupError(
            f"{checkpoint} is not the network that {source} describes: it has {', '.join(wrong)}. "
            "Lay the arch.json that belongs to it beside it."
        )


_WORDS = {"heads": "heads x points x levels"}


def _measure(state: Mapping[str, torch.Tensor]) -> dict[str, int | tuple[int, ...] | None]:
    """Each size as the shapes tell it; None, or an incomplete tuple, where the tensor is not there."""

    def size(name: str, dim: int = 0) -> int | None:
        tensor = state.get(name)
        return tensor.shape[dim] if tensor is not None and tensor.dim() > dim else None

    def count(template: str) -> int:
        number = 0
        while template.format(number) in state:
            number += 1
        return number

    block, pixels = "backbone.stages.{}.blocks.{}", "panoptic_head.pixel_decoder"
    queries, table = "panoptic_head.transformer_decoder", "attn.w_msa.relative_position_bias_table"
    embed_dim = size("backbone.patch_embed.norm.weight")
    offsets = size(f"{block.format(0, 0)}.{table}")
    hidden = size(f"{block.format(0, 0)}.ffn.layers.0.0.weight")
    classes = size("panoptic_head.cls_embed.bias")
    heads = [size(f"{block.format(stage, 0)}.{table}", 1) for stage in range(_STAGES)]
    return {
        "embed_dim": embed_dim,
        "depths": tuple(count(f"backbone.stages.{stage}.blocks.{{}}.norm1.weight") for stage in range(_STAGES)),
        "num_heads": tuple(number for number in heads if number is not None),
        "window": None if offsets is None else (round(offsets**0.5) + 1) // 2,
        "mlp_ratio": None if hidden is None or not embed_dim else hidden // embed_dim,
        "feature_size": size(f"{pixels}.mask_feature.weight", 1),
        "mask_feature_size": size(f"{pixels}.mask_feature.weight"),
        "hidden_dim": size("panoptic_head.query_feat.weight", 1),
        "pixel_decoder_layers": count(f"{pixels}.encoder.layers.{{}}.norms.0.weight"),
        "pixel_decoder_ffn": size(f"{pixels}.encoder.layers.0.ffns.0.layers.0.0.weight"),
        "decoder_layers": count(f"{queries}.layers.{{}}.norms.0.weight"),
        "decoder_ffn": size(f"{queries}.layers.0.ffns.0.layers.0.0.weight"),
        "heads": size(f"{pixels}.encoder.layers.0.attentions.0.attention_weights.weight"),
        "queries": size("panoptic_head.query_feat.weight"),
        "classes": None if classes is None else classes - 1,
    }
