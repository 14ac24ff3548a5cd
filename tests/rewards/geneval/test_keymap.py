"""All 649 names of the published network, and what each operation has to preserve."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers.models.swin.modeling_swin import SwinPatchMerging

from rewards.errors import SetupError
from rewards.geneval.architecture import SWIN_S
from rewards.geneval.keymap import convert, copy, drop, merge, rename_3x, thirds, translate
from rewards.geneval.network import Mask2Former, load_network, read_published
from rewards.weights.checkpoint import load_strictly

GOLDEN = Path(__file__).parents[2] / "golden/geneval/detector"
ROWS = json.loads(gzip.decompress((GOLDEN / "keymap_full.json.gz").read_bytes()))["rows"]
TINY, TINY_ARCHITECTURE = GOLDEN / "tiny_mmdet2.pth", GOLDEN / "tiny_arch.json"
OPERATIONS = {"copy": copy, "skip": drop, "split": thirds, "permute": merge}
FILE = Path("m.pth")

# How mmdet 3.x calls the parts of a layer; written out here once more, independently of the table under test.
PARTS_3X = {
    "pixel_decoder": {"attentions.0": "self_attn", "ffns.0": "ffn"},
    "transformer_decoder": {"attentions.0": "cross_attn", "attentions.1": "self_attn", "ffns.0": "ffn"},
}


def name_3x(name):
    for decoder, parts in PARTS_3X.items():
        if f"panoptic_head.{decoder}." in name and ".layers." in name:
            for part, part_3x in parts.items():
                name = name.replace(f".{part}.", f".{part_3x}.", 1)
    return name


def tiny_state():
    return read_published(TINY)


def load(state, tmp_path, name="renamed.pth"):
    torch.save({"meta": {}, "state_dict": state}, tmp_path / name)
    return load_network(tmp_path / name, TINY_ARCHITECTURE, torch.float32, torch.device("cpu"))


def test_every_recorded_name_becomes_what_was_recorded():
    assert len(ROWS) == 649
    for name, _, targets, operation in ROWS:
        assert translate(name) == (targets, OPERATIONS[operation.split()[0]]), name


def test_the_published_shapes_fill_the_published_network_and_nothing_is_left():
    state = {name: torch.empty(shape, device="meta") for name, shape, _, _ in ROWS}
    with torch.device("meta"):
        network = Mask2Former(SWIN_S)
    converted = convert(state, FILE)
    assert len(converted) == 757
    load_strictly(network, converted, FILE)


def test_no_two_rules_know_one_name():
    from rewards.geneval.keymap import RULES

    for name, *_ in ROWS:
        assert sum(rule.pattern.fullmatch(name) is not None for rule in RULES) == 1, name


def test_every_rule_is_used():
    from rewards.geneval.keymap import RULES

    for rule in RULES:
        assert any(rule.pattern.fullmatch(name) for name, *_ in ROWS), rule.source


def test_thirds_are_query_key_value():
    query, key, value = thirds(torch.arange(6))
    assert (query.tolist(), key.tolist(), value.tolist()) == ([0, 1], [2, 3], [4, 5])


def test_merged_patches_are_the_same_layer():
    """mmdet's patch merging is an Unfold, a norm and a product; transformers' slices and concatenates."""
    torch.manual_seed(0)
    channels, height, width = 3, 4, 6
    norm, reduction = nn.LayerNorm(4 * channels), nn.Linear(4 * channels, 2 * channels, bias=False)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    image = torch.randn(1, channels, height, width)
    expected = reduction(norm(nn.Unfold(2, stride=2)(image).transpose(1, 2)))

    merging = SwinPatchMerging(dim=channels)
    source = {"norm.weight": norm.weight, "norm.bias": norm.bias, "reduction.weight": reduction.weight}
    merging.load_state_dict({name: merge(tensor)[0] for name, tensor in source.items()})
    got = merging(image.flatten(2).transpose(1, 2), (height, width))
    torch.testing.assert_close(got, expected)


def test_3x_names_give_the_same_network(tmp_path):
    state = tiny_state()
    renamed = {name_3x(name): tensor for name, tensor in state.items()}
    changed = [name for name in state if name not in renamed]
    assert len(renamed) == len(state)
    assert len(changed) == 2 * (8 + 4) + 4 * (4 + 4 + 4)  # of 2 layers of the one decoder and 4 of the other
    assert {rename_3x(name) for name in renamed} == set(state)

    ours = load(renamed, tmp_path).state_dict()
    theirs = load_network(TINY, TINY_ARCHITECTURE, torch.float32, torch.device("cpu")).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_names_that_no_rule_knows_are_told(tmp_path):
    state = tiny_state()
    with pytest.raises(SetupError, match=r"no rule for bbox_head\.fc_cls\.weight, backbone\.norm4\.bias\."):
        convert({**state, "bbox_head.fc_cls.weight": torch.zeros(1), "backbone.norm4.bias": torch.zeros(1)}, FILE)


def test_a_key_that_is_missing_is_told(tmp_path):
    state = tiny_state()
    del state["panoptic_head.transformer_decoder.post_norm.bias"]
    with pytest.raises(SetupError, match=r"lacks model\.transformer_module\.decoder\.layernorm\.bias"):
        load(state, tmp_path)


def test_a_tensor_under_both_names_is_refused():
    name = "panoptic_head.transformer_decoder.layers.0.attentions.0.attn.in_proj_bias"
    state = {name: torch.zeros(3), name_3x(name): torch.zeros(3)}
    with pytest.raises(SetupError, match="under two names"):
        convert(state, FILE)


@pytest.mark.parametrize(
    "name", ["backbone.stages.0.blocks.0.attn.w_msa.qkv.bias", "backbone.stages.0.downsample.norm.bias"]
)
def test_a_tensor_that_cannot_be_cut_is_refused(name):
    with pytest.raises(SetupError, match=r"unusable .*bias \[7\]"):
        convert({name: torch.zeros(7)}, FILE)
