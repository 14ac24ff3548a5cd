import importlib.util
import shutil
from hashlib import sha256

import pytest
import yaml

from rewards.errors import SetupError
from rewards.ocr.models import Model, OcrModels, find_models

WHEEL = find_models(None, "v6")


def test_bundled_models_are_onnx_with_an_alphabet():
    assert WHEEL.detection.onnx
    assert WHEEL.recognition.has_own_characters
    alphabet = WHEEL.recognition.characters
    assert len(alphabet) == 18708
    assert {"A", "z", "0", "é"} <= set(alphabet)
    WHEEL.check()


def test_checksums_are_those_of_the_files():
    digest = sha256(WHEEL.detection.path.read_bytes()).hexdigest()
    assert f"{WHEEL.detection.path.name} sha256:{digest}" in WHEEL.checksums()


def test_files_and_subfolders_are_both_understood(tmp_path):
    flat, nested, paddle = tmp_path / "flat", tmp_path / "nested", tmp_path / "paddle"
    for path in (flat / "my_det.onnx", flat / "my_rec.onnx", nested / "det" / "a.onnx", nested / "text_rec" / "b.onnx"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for kind in ("det", "rec"):
        (paddle / kind).mkdir(parents=True)
        for name in ("inference.pdiparams", "inference.json", "inference.yml"):
            (paddle / kind / name).touch()
    assert find_models(str(flat), "v6") == OcrModels(Model(flat / "my_det.onnx"), Model(flat / "my_rec.onnx"))
    found = find_models(str(nested), "v6")
    assert (found.detection.path.name, found.recognition.path.name) == ("a.onnx", "b.onnx")
    found = find_models(str(paddle), "v6")
    assert found.recognition == Model(paddle / "rec")
    assert not found.recognition.onnx
    names = [file.name for file in found.recognition.files]
    assert names == ["inference.json", "inference.pdiparams", "inference.yml"]


def test_none_or_two_of_a_kind_are_refused(tmp_path):
    (tmp_path / "one_det.onnx").touch()
    with pytest.raises(SetupError, match=r"expected one rec model .* found nothing"):
        find_models(str(tmp_path), "v6")
    (tmp_path / "rec1.onnx").touch()
    (tmp_path / "rec2.onnx").touch()
    with pytest.raises(SetupError, match=r"found rec1.onnx, rec2.onnx"):
        find_models(str(tmp_path), "v6")


def test_swapped_models_are_noticed():
    with pytest.raises(SetupError, match="not a text detection model; are the two files swapped"):
        OcrModels(WHEEL.recognition, WHEEL.detection).check()
    with pytest.raises(SetupError, match="does not say which characters it knows"):
        OcrModels(WHEEL.detection, WHEEL.detection).check()


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "broken_det.onnx"
    path.write_bytes(WHEEL.detection.path.read_bytes()[:5000])
    with pytest.raises(SetupError, match=r"broken_det.onnx is not an ONNX model that loads"):
        OcrModels(Model(path), WHEEL.recognition).check()


def strip_alphabet(folder):
    """The bundled recogniser with its metadata key misspelt, as exports from elsewhere have none."""
    data = WHEEL.recognition.path.read_bytes()
    assert data.count(b"\x09character") == 1
    path = folder / "plain_rec.onnx"
    path.write_bytes(data.replace(b"\x09character", b"\x09charactex"))
    return Model(path)


def test_alphabet_may_come_from_inference_yml(tmp_path):
    model = strip_alphabet(tmp_path)
    settings = {"PostProcess": {"character_dict": WHEEL.recognition.characters}}
    model.settings_file.write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
    assert not model.has_own_characters
    assert model.characters == WHEEL.recognition.characters
    OcrModels(WHEEL.detection, model).check()


def test_an_alphabet_of_another_model_is_noticed(tmp_path):
    model = strip_alphabet(tmp_path)
    model.settings_file.write_text("PostProcess: {character_dict: [a, b, c]}", encoding="utf-8")
    with pytest.raises(SetupError, match="writes 18710 characters, but its list holds 3"):
        OcrModels(WHEEL.detection, model).check()


def test_a_missing_wheel_is_named_with_its_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"rapidocr_onnxruntime, which is not installed: pip install 'dgpo\[demo\]'"):
        find_models(None, "v4")


def test_a_wheel_without_models_is_named(monkeypatch, tmp_path):
    (tmp_path / "rapidocr_onnxruntime").mkdir()
    (tmp_path / "rapidocr_onnxruntime" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SetupError, match="brings no OCR weights"):
        find_models(None, "v4")
    shutil.rmtree(tmp_path / "rapidocr_onnxruntime")
