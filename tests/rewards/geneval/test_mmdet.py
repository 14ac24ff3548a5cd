"""Both forms of mmdet's results, and a machine without mmdet; mmdet itself was run once, see docs/log.md."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rewards.geneval.mmdet as adapter
from rewards.errors import SetupError
from rewards.geneval.mmdet import MmdetDetector, read_instances, read_lists

ROWS = np.array([[0, 0, 4, 4, 0.9], [1, 1, 3, 2, 0.5]], np.float32)
MASKS = np.zeros((2, 4, 6), bool)
MASKS[0, :2] = True


class Instances(dict):
    """As mmdet 3.x's InstanceData: fields as attributes and as items."""

    __getattr__ = dict.__getitem__


def test_lists_of_2x():
    (rows, masks), (none, no_masks) = read_lists(([ROWS, ROWS[:0]], [list(MASKS), []]), (4, 6))
    assert masks is not None
    assert no_masks is not None
    assert rows.dtype == np.float32
    assert np.array_equal(rows, ROWS)
    assert np.array_equal(masks, MASKS)
    assert (none.shape, no_masks.shape, no_masks.dtype) == ((0, 5), (0, 4, 6), bool)


def test_boxes_alone_of_2x():
    assert [(len(rows), masks) for rows, masks in read_lists([ROWS, ROWS[:0]], (4, 6))] == [(2, None), (0, None)]


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_instances_of_3x(make):
    labels = np.array([2, 0])
    instances = Instances(bboxes=make(ROWS[:, :4]), scores=make(ROWS[:, 4]), labels=make(labels), masks=make(MASKS))
    raw: Any = read_instances(instances, 3)
    assert [len(rows) for rows, _ in raw] == [1, 0, 1]
    assert np.array_equal(raw[2][0], ROWS[:1])
    assert np.array_equal(raw[2][1], MASKS[:1])
    assert np.array_equal(raw[0][0], ROWS[1:])
    assert raw[1][1].shape == (0, 4, 6)
    del instances["masks"]
    assert read_instances(instances, 3)[2][1] is None


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("version", ["2.28.2", "3.3.0"])
def test_mmdet_is_given_bgr_and_a_strict_checkpoint(monkeypatch, version, swap):
    """The real functions are called with these arguments in both versions; here they only record them."""
    from types import SimpleNamespace

    from PIL import Image

    calls = []
    model = SimpleNamespace(dataset_meta={"classes": ("person", "bicycle")})

    def infer(network, pixels):
        calls.append((network, pixels))
        if version.startswith("2"):
            return [ROWS, ROWS[:0]], [list(MASKS), []]
        labels = np.zeros(2, int)
        instances = Instances(bboxes=ROWS[:, :4], scores=ROWS[:, 4], labels=labels, masks=MASKS)
        return SimpleNamespace(pred_instances=instances)

    apis = SimpleNamespace(init_detector=lambda *args, **kwargs: model, inference_detector=infer)
    inference = SimpleNamespace(load_checkpoint=lambda *args, **kwargs: calls.append(kwargs))
    modules = SimpleNamespace(__version__=version), apis, inference
    monkeypatch.setattr(adapter, "_import_mmdet", lambda: modules)
    detector = MmdetDetector("m.pth", "m.py", swap_channels=swap)
    (raw,) = detector.detect([Image.new("RGBA", (6, 4), (1, 2, 3, 9))])
    assert calls[0] == {"map_location": "cpu", "strict": True}
    assert calls[1][0] is model
    assert calls[1][1].shape == (4, 6, 3)
    assert calls[1][1][0, 0].tolist() == ([1, 2, 3] if swap else [3, 2, 1])
    assert np.array_equal(raw[0][0], ROWS)
    assert len(raw) == 2
    assert detector.version == version


def test_a_checkpoint_of_the_other_version_is_refused(monkeypatch):
    from types import SimpleNamespace

    def load(*args, **kwargs):
        raise RuntimeError("The model and loaded state dict do not match exactly\n" + "missing keys " * 100)

    apis = SimpleNamespace(init_detector=lambda *args, **kwargs: object(), inference_detector=None)
    modules = SimpleNamespace(__version__="3.3.0"), apis, SimpleNamespace(load_checkpoint=load)
    monkeypatch.setattr(adapter, "_import_mmdet", lambda: modules)
    with pytest.raises(SetupError, match=r"m\.pth does not fit m\.py in mmdet 3\.3\.0.*2\.x and 3\.x") as caught:
        MmdetDetector("m.pth", "m.py")
    assert len(str(caught.value)) < 700


def test_without_mmdet_the_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "mmdet", None)
    with pytest.raises(SetupError, match=r"no wheels for current Python.*leave the option out"):
        MmdetDetector("m.pth", "m.py")


def test_the_module_stands_alone(tmp_path):
    """In an old environment there is no package of ours, no torch of ours and no newer syntax."""
    source = Path(adapter.__file__).read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert imported == {"__future__", "importlib", "typing", "numpy"}
    (tmp_path / "alone.py").write_text(source, encoding="utf-8")
    program = (
        "import sys; sys.modules['mmdet'] = sys.modules['rewards'] = None; import alone\n"
        "try: alone.MmdetDetector('m.pth', 'm.py')\n"
        "except RuntimeError as error: print(type(error).__name__, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["RuntimeError", "False"]
