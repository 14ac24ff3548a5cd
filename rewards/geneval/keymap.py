"""The names of a Mask2Former in mmdet, and those of the same tensors in transformers; nothing is matched by guessing.

mmdet 2.x and 3.x publish the same network under two sets of names; `NAMES_3X` turns the second into the first, and
`RULES` the first into the module names of transformers 5 (what `state_dict` has, not what `save_pretrained` writes).

In the templates `{i}`, `{j}`, `{k}` stand for a layer's number, the same on both sides, and `*` for weight or bias.
`{qkv}` stands for q, k and v: three tensors that mmdet keeps in one.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from rewards.errors import SetupError

_SHOWN = 10


def copy(tensor: torch.Tensor) -> list[torch.Tensor]:
    return [tensor]


def thirds(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Query, key and value, which lie one below the other."""
    return list(tensor.chunk(3))


def merge(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The inputs of a patch merging, in the order in which transformers puts the four patches of a square together.

    mmdet unfolds, so that entry 4*c + 2*row + col is channel c of the patch at (row, col); transformers lays the
    patches one behind the other, down the first column and then the second: entry (row + 2*col)*C + c.

    >>> merge(torch.arange(8))[0].tolist()  # two channels
    [0, 4, 2, 6, 1, 5, 3, 7]
    """
    squares = tensor.unflatten(-1, (-1, 2, 2))  # ..., channel, row, col
    return [squares.movedim((-1, -2), (-3, -2)).flatten(-3)]


def drop(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Follows from the architecture; transformers computes it."""
    return []


@dataclass(frozen=True)
class Rule:
    """Tensors named `source` in mmdet 2.x become those named `target`, by `operation`."""

    source: str
    target: str
    operation: Callable[[torch.Tensor], list[torch.Tensor]] = copy

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return _compile(self.source)

    def names(self, match: re.Match[str]) -> list[str]:
        """What a matching tensor becomes, in the order of the operation's results."""
        if not self.target:
            return []
        name = _fill(self.target, match)
        return [name.replace("{qkv}", part) for part in "qkv"] if "{qkv}" in name else [name]


_SWIN = "model.pixel_level_module.encoder.swin"
_NORMS = "model.pixel_level_module.encoder.hidden_states_norms"
_PIXELS = "model.pixel_level_module.decoder"
_QUERIES = "model.transformer_module"
_BLOCK_2X, _BLOCK = "backbone.stages.{i}.blocks.{j}", f"{_SWIN}.encoder.layers.{{i}}.blocks.{{j}}"
_PIXELS_2X = "panoptic_head.pixel_decoder"
_PIXEL_2X, _PIXEL = f"{_PIXELS_2X}.encoder.layers.{{k}}", f"{_PIXELS}.encoder.layers.{{k}}"
_QUERIES_2X = "panoptic_head.transformer_decoder"
_QUERY_2X, _QUERY = f"{_QUERIES_2X}.layers.{{k}}", f"{_QUERIES}.decoder.layers.{{k}}"

RULES = (
    # Swin
    Rule("backbone.patch_embed.projection.*", f"{_SWIN}.embeddings.patch_embeddings.projection.*"),
    Rule("backbone.patch_embed.norm.*", f"{_SWIN}.embeddings.norm.*"),
    Rule(f"{_BLOCK_2X}.norm1.*", f"{_BLOCK}.layernorm_before.*"),
    Rule(f"{_BLOCK_2X}.norm2.*", f"{_BLOCK}.layernorm_after.*"),
    Rule(f"{_BLOCK_2X}.attn.w_msa.qkv.*", f"{_BLOCK}.attention.{{qkv}}_proj.*", thirds),
    Rule(f"{_BLOCK_2X}.attn.w_msa.proj.*", f"{_BLOCK}.attention.o_proj.*"),
    Rule(
        f"{_BLOCK_2X}.attn.w_msa.relative_position_bias_table",
        f"{_BLOCK}.attention.relative_position_bias.relative_position_bias_table",
    ),
    Rule(f"{_BLOCK_2X}.attn.w_msa.relative_position_index", "", drop),
    Rule(f"{_BLOCK_2X}.ffn.layers.0.0.*", f"{_BLOCK}.mlp.fc1.*"),
    Rule(f"{_BLOCK_2X}.ffn.layers.1.*", f"{_BLOCK}.mlp.fc2.*"),
    Rule("backbone.stages.{i}.downsample.norm.*", f"{_SWIN}.encoder.layers.{{i}}.downsample.norm.*", merge),
    Rule(
        "backbone.stages.{i}.downsample.reduction.weight",
        f"{_SWIN}.encoder.layers.{{i}}.downsample.reduction.weight",
        merge,
    ),
    Rule("backbone.norm0.*", f"{_NORMS}.stage1.*"),
    Rule("backbone.norm1.*", f"{_NORMS}.stage2.*"),
    Rule("backbone.norm2.*", f"{_NORMS}.stage3.*"),
    Rule("backbone.norm3.*", f"{_NORMS}.stage4.*"),
    # Pixel decoder: deformable attention over three levels, coarsest first, and one finer level
    Rule(f"{_PIXELS_2X}.input_convs.{{i}}.conv.*", f"{_PIXELS}.input_projections.{{i}}.0.*"),
    Rule(f"{_PIXELS_2X}.input_convs.{{i}}.gn.*", f"{_PIXELS}.input_projections.{{i}}.1.*"),
    Rule(f"{_PIXELS_2X}.level_encoding.weight", f"{_PIXELS}.level_embed"),
    Rule(f"{_PIXEL_2X}.attentions.0.sampling_offsets.*", f"{_PIXEL}.self_attn.sampling_offsets.*"),
    Rule(f"{_PIXEL_2X}.attentions.0.attention_weights.*", f"{_PIXEL}.self_attn.attention_weights.*"),
    Rule(f"{_PIXEL_2X}.attentions.0.value_proj.*", f"{_PIXEL}.self_attn.value_proj.*"),
    Rule(f"{_PIXEL_2X}.attentions.0.output_proj.*", f"{_PIXEL}.self_attn.output_proj.*"),
    Rule(f"{_PIXEL_2X}.ffns.0.layers.0.0.*", f"{_PIXEL}.fc1.*"),
    Rule(f"{_PIXEL_2X}.ffns.0.layers.1.*", f"{_PIXEL}.fc2.*"),
    Rule(f"{_PIXEL_2X}.norms.0.*", f"{_PIXEL}.self_attn_layer_norm.*"),
    Rule(f"{_PIXEL_2X}.norms.1.*", f"{_PIXEL}.final_layer_norm.*"),
    Rule(f"{_PIXELS_2X}.lateral_convs.0.conv.weight", f"{_PIXELS}.adapter_1.0.weight"),
    Rule(f"{_PIXELS_2X}.lateral_convs.0.gn.*", f"{_PIXELS}.adapter_1.1.*"),
    Rule(f"{_PIXELS_2X}.output_convs.0.conv.weight", f"{_PIXELS}.layer_1.0.weight"),
    Rule(f"{_PIXELS_2X}.output_convs.0.gn.*", f"{_PIXELS}.layer_1.1.*"),
    Rule(f"{_PIXELS_2X}.mask_feature.*", f"{_PIXELS}.mask_projection.*"),
    # Decoder of the queries: first attention to the image within the mask (kept whole), then among queries
    Rule(f"{_QUERY_2X}.attentions.0.attn.in_proj_*", f"{_QUERY}.cross_attn.in_proj_*"),
    Rule(f"{_QUERY_2X}.attentions.0.attn.out_proj.*", f"{_QUERY}.cross_attn.out_proj.*"),
    Rule(f"{_QUERY_2X}.attentions.1.attn.in_proj_*", f"{_QUERY}.self_attn.{{qkv}}_proj.*", thirds),
    Rule(f"{_QUERY_2X}.attentions.1.attn.out_proj.*", f"{_QUERY}.self_attn.out_proj.*"),
    Rule(f"{_QUERY_2X}.ffns.0.layers.0.0.*", f"{_QUERY}.fc1.*"),
    Rule(f"{_QUERY_2X}.ffns.0.layers.1.*", f"{_QUERY}.fc2.*"),
    Rule(f"{_QUERY_2X}.norms.0.*", f"{_QUERY}.cross_attn_layer_norm.*"),
    Rule(f"{_QUERY_2X}.norms.1.*", f"{_QUERY}.self_attn_layer_norm.*"),
    Rule(f"{_QUERY_2X}.norms.2.*", f"{_QUERY}.final_layer_norm.*"),
    Rule(f"{_QUERIES_2X}.post_norm.*", f"{_QUERIES}.decoder.layernorm.*"),
    Rule("panoptic_head.query_feat.weight", f"{_QUERIES}.queries_features.weight"),
    Rule("panoptic_head.query_embed.weight", f"{_QUERIES}.queries_embedder.weight"),
    Rule("panoptic_head.level_embed.weight", f"{_QUERIES}.level_embed.weight"),
    # Heads
    Rule("panoptic_head.cls_embed.*", "class_predictor.*"),
    Rule("panoptic_head.mask_embed.0.*", f"{_QUERIES}.decoder.mask_predictor.mask_embedder.0.0.*"),
    Rule("panoptic_head.mask_embed.2.*", f"{_QUERIES}.decoder.mask_predictor.mask_embedder.1.0.*"),
    Rule("panoptic_head.mask_embed.4.*", f"{_QUERIES}.decoder.mask_predictor.mask_embedder.2.0.*"),
)

# What follows a 3.x prefix stays as it is.
NAMES_3X = (
    (f"{_PIXEL_2X}.self_attn.", f"{_PIXEL_2X}.attentions.0."),
    (f"{_PIXEL_2X}.ffn.", f"{_PIXEL_2X}.ffns.0."),
    (f"{_QUERY_2X}.cross_attn.", f"{_QUERY_2X}.attentions.0."),
    (f"{_QUERY_2X}.self_attn.", f"{_QUERY_2X}.attentions.1."),
    (f"{_QUERY_2X}.ffn.", f"{_QUERY_2X}.ffns.0."),
)


def rename_3x(name: str) -> str:
    """The mmdet 2.x name of a tensor of an mmdet 3.x file; 2.x names stay.

    >>> rename_3x("panoptic_head.transformer_decoder.layers.3.ffn.layers.1.bias")
    'panoptic_head.transformer_decoder.layers.3.ffns.0.layers.1.bias'
    """
    for prefix_3x, prefix in NAMES_3X:
        match = _compile(prefix_3x).match(name)
        if match:
            return _fill(prefix, match) + name[match.end() :]
    return name


def translate(name: str) -> tuple[list[str], Callable[[torch.Tensor], list[torch.Tensor]]] | None:
    """What a tensor of an mmdet 2.x file becomes, and how; None for a name that no rule knows.

    >>> translate("backbone.norm3.bias")[0]
    ['model.pixel_level_module.encoder.hidden_states_norms.stage4.bias']
    """
    for rule in RULES:
        match = rule.pattern.fullmatch(name)
        if match:
            return rule.names(match), rule.operation
    return None


def convert(state: Mapping[str, torch.Tensor], source: Path) -> dict[str, torch.Tensor]:
    """A state dict of mmdet 2.x or 3.x under the names of transformers, every tensor used or dropped by a rule.

    Whether the result is all that the network wants is for `load_strictly` to say.

    Args:
        source: the checkpoint's path, for messages.

    Raises:
        SetupError: names that no rule knows, a name that is there twice (in both forms), or a tensor that cannot be
            cut as its rule says; names them.
    """
    converted: dict[str, torch.Tensor] = {}
    unknown: list[str] = []
    unfit: list[str] = []
    for name, tensor in state.items():
        found = translate(rename_3x(name))
        if found is None:
            unknown.append(name)
            continue
        targets, operation = found
        if operation is not copy and not _can_cut(tensor, operation):
            unfit.append(f"{name} {list(tensor.shape)}")
            continue
        for target, part in zip(targets, operation(tensor), strict=True):
            if target in converted:
                unfit.append(f"{name} (under two names)")
            converted[target] = part
    if unknown or unfit:
        raise SetupError(
            f"{source} is not a Mask2Former with a Swin backbone as mmdet 2.x or 3.x publish it: "
            + "; ".join([*_describe("no rule for", unknown), *_describe("unusable", unfit)])
            + ". `dgpo rewards show geneval` names the file to take."
        )
    return converted


def _can_cut(tensor: torch.Tensor, operation: Callable[[torch.Tensor], list[torch.Tensor]]) -> bool:
    if operation is thirds:
        return tensor.dim() > 0 and tensor.shape[0] % 3 == 0
    return operation is drop or (tensor.dim() > 0 and tensor.shape[-1] % 4 == 0)


def _describe(what: str, names: list[str]) -> list[str]:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{what} {', '.join(names[:_SHOWN])}{more}"] if names else []


def _compile(template: str) -> re.Pattern[str]:
    """A template as a regular expression with the groups i, j, k and tail."""
    pattern = re.escape(template)
    pattern = re.sub(r"\\\{(\w)\\\}", r"(?P<\1>\\d+)", pattern)
    return re.compile(pattern.replace(r"\*", "(?P<tail>weight|bias)"))


def _fill(template: str, match: re.Match[str]) -> str:
    """A template with what its counterpart matched."""
    groups = match.groupdict()
    name = re.sub(r"\{(\w)\}", lambda place: groups[place[1]], template)
    return name.replace("*", groups.get("tail", ""))
