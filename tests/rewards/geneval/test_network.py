"""What a checkpoint and its arch.json may be, and what is said when they are not."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from rewards.errors import SetupError
from rewards.geneval.architecture import SWIN_S, read_architecture
from rewards.geneval.network import load_network, read_published

GOLDEN = Path(__file__).parents[2] / "golden/geneval/detector"
TINY, TINY_ARCHITECTURE = GOLDEN / "tiny_mmdet2.pth", GOLDEN / "tiny_arch.json"
CPU = torch.device("cpu")


def changed_architecture(tmp_path, **values):
    said = json.loads(TINY_ARCHITECTURE.read_text())
    said["swin"] |= values.pop("swin", {})
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(said | values))
    return path


def test_arch_json_beside_the_checkpoint_is_found(tmp_path):
    shutil.copy(TINY, tmp_path / "m.pth")
    shutil.copy(TINY_ARCHITECTURE, tmp_path / "arch.json")
    network = load_network(tmp_path / "m.pth", None, torch.float32, CPU)
    assert len(network.model.transformer_module.decoder.layers) == 4
    assert not any(tensor.is_meta for tensor in [*network.parameters(), *network.buffers()])


def test_without_it_the_published_network_is_expected(tmp_path):
    shutil.copy(TINY, tmp_path / "m.pth")
    with pytest.raises(SetupError, match=r"mask2former_swin-s.*feature_size 64 instead of 256.*arch\.json"):
        load_network(tmp_path / "m.pth", None, torch.float32, CPU)


def test_the_published_sizes_are_those_of_the_specification():
    assert SWIN_S.swin.model_dump() == {
        "embed_dim": 96,
        "depths": (2, 2, 18, 2),
        "num_heads": (3, 6, 12, 24),
        "window": 7,
        "mlp_ratio": 4,
    }
    assert (SWIN_S.pixel_decoder_layers, SWIN_S.decoder_layers, SWIN_S.queries, SWIN_S.classes) == (6, 9, 100, 80)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"swin": {"num_heads": [1, 2, 4, 4]}}, r"num_heads \(1, 2, 4, 8\) instead of \(1, 2, 4, 4\)"),
        ({"swin": {"window": 12}}, "window 7 instead of 12"),
        ({"swin": {"depths": [2, 2, 6, 2]}}, r"depths \(2, 2, 4, 2\)"),
        ({"swin": {"mlp_ratio": 2}}, "mlp_ratio 4 instead of 2"),
        ({"heads": 4}, "heads x points x levels 96 instead of 48"),
        ({"decoder_layers": 5}, "decoder_layers 4 instead of 5"),
        ({"queries": 200}, "queries 100 instead of 200"),
        ({"pixel_decoder_ffn": 95, "classes": 79}, "pixel_decoder_ffn 96 instead of 95, classes 80 instead of 79"),
    ],
)
def test_every_size_is_held_against_the_shapes(tmp_path, values, words):
    with pytest.raises(SetupError, match=words):
        load_network(TINY, changed_architecture(tmp_path, **values), torch.float32, CPU)


@pytest.mark.parametrize(
    ("values", "words"),
    [({"points": 8}, "points"), ({"levels": 4}, "levels"), ({"head": 8}, "head"), ({"queries": 0}, "queries")],
)
def test_an_arch_json_that_says_something_impossible(tmp_path, values, words):
    with pytest.raises(SetupError, match=rf"does not describe a Mask2Former \({words}: "):
        read_architecture(changed_architecture(tmp_path, **values))


def test_an_arch_json_that_is_none(tmp_path):
    (tmp_path / "arch.json").write_text("{")
    with pytest.raises(SetupError, match="is not JSON"):
        read_architecture(tmp_path / "arch.json")


def test_other_classes_than_those_of_coco(tmp_path):
    state = read_published(TINY)
    for part in ("weight", "bias"):
        state[f"panoptic_head.cls_embed.{part}"] = state[f"panoptic_head.cls_embed.{part}"][:21].clone()
    torch.save({"state_dict": state}, tmp_path / "voc.pth")
    with pytest.raises(SetupError, match=r"knows 20 classes; GenEval needs the 80"):
        load_network(tmp_path / "voc.pth", changed_architecture(tmp_path, classes=20), torch.float32, CPU)


@pytest.mark.parametrize("content", [{"state_dict": {"epoch": 3}}, [1, 2], {"meta": {}}])
def test_a_file_that_holds_no_tensors(tmp_path, content):
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(SetupError, match=r"not a checkpoint of mmdet"):
        read_published(tmp_path / "m.pth")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "m.pth").write_bytes(pickle.dumps({"state_dict": Evil()}, protocol=2))
    with pytest.raises(SetupError, match="cannot be read as a checkpoint"):
        read_published(tmp_path / "m.pth")
    assert not (tmp_path / "ran").exists()


def test_one_network_for_equal_files():
    assert load_network(TINY, TINY_ARCHITECTURE, torch.float32, CPU) is load_network(
        TINY, TINY_ARCHITECTURE, torch.float32, CPU
    )
