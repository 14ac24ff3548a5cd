"""`dgpo doctor` tells what is missing and how to get it."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import doctor
from cli.commands import app
from rewards.errors import SetupError
from rewards.ocr.self_check import read_drawn_word
from rewards.parse import parse_rewards
from rewards.registry import find_card, load
from rewards.shared import held, let_go
from rewards.weights.folder import cache_place

GOLDEN = Path(__file__).parents[1] / "golden" / "clip_family"


@pytest.fixture
def embedded(monkeypatch, model_folder):
    """Stand-in weights for the embedded model, which is not what is looked at here."""
    monkeypatch.setattr("dgpo.models.find.TINY", model_folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_a_whole_machine_is_told_so(embedded):
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0, done.stdout + done.stderr
    found = {line[:24].strip(): line for line in done.stdout.splitlines()}
    assert 'drew "HARBOR" and read "HARBOR"' in done.stdout
    for what in ("python", "packages", "torch", "model tiny", "extra ocr", "reward ocr@1", "ocr at work", "cv2"):
        assert f"{what} " in done.stdout
    assert any("HF_HUB_OFFLINE" in line for line in found.values())


def test_missing_ocr_extra_ends_with_3_and_the_command(program, without):
    done = program("doctor", before=without("rapidocr", "onnxruntime"))
    assert done.returncode == 3, done.stderr
    lines = [line for line in done.stdout.splitlines() if " missing " in line]
    assert any(line.startswith("extra ocr") and "pip install 'dgpo[ocr]'" in line for line in lines)
    assert any(line.startswith("reward ocr@1") for line in lines)
    assert any(line.startswith("ocr at work") for line in lines)
    assert "extra ocr" in done.stderr
    assert "Traceback" not in done.stderr


def test_opencv_without_libgl_is_told_to_be_headless(monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "cv2":
                raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    finding = doctor._examine_cv2()
    assert finding.state == "missing"
    assert finding.needed
    assert "opencv-python-headless" in finding.text


def test_missing_weights_of_the_embedded_model(monkeypatch, tmp_path):
    monkeypatch.setattr("dgpo.models.find.TINY", tmp_path / "weights")
    finding = doctor._examine_model()
    assert (finding.state, finding.needed) == ("missing", True)
    assert "dgpo.models.tiny.pretrain" in finding.text


def test_an_engine_that_misreads_is_missing():
    reward = load(parse_rewards(["ocr"])[0])
    with pytest.raises(SetupError, match=r"was shown .* and .*pip install --force-reinstall 'dgpo\[ocr\]'"):
        read_drawn_word(reward, "\u4e00\u4e8c")  # PIL's built-in letters have no Chinese


def test_weights_that_were_not_fetched_are_a_hint_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    finding = doctor._examine_reward(find_card("pickscore"))
    assert (finding.state, finding.needed) == ("hint", False)
    assert finding.text == "weights not here (fetch 3.9 GB): dgpo rewards fetch pickscore"


@pytest.mark.parametrize(
    ("content", "state", "words"),
    [(None, "ok", "weights are here, and fit"), (b"nothing", "missing", "cannot be read")],
)
def test_weights_that_are_here_are_tried(monkeypatch, tmp_path, content, state, words):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    let_go()
    before = held()  # other tests' rewards, kept in this process
    card = find_card("imagereward")
    for file in card.files:
        place = cache_place(file)
        assert place is not None
        place.parent.mkdir(parents=True, exist_ok=True)
        if content is None or file.path != "ImageReward.pt":
            place.symlink_to(GOLDEN / "imagereward" / file.path)
        else:
            place.write_bytes(content)
    finding = doctor._examine_reward(card)
    assert (finding.state, finding.needed) == (state, False)
    assert words in finding.text
    assert finding.text.count(" MB on cpu") == (len(before) + 1 if state == "ok" else 0)  # the tiny checkpoint's
    assert held() == before


def test_hub_out_of_reach_is_a_hint():
    finding = doctor._examine_hub({"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert (finding.state, finding.needed) == ("hint", False)
    assert "--model tiny" in finding.text


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, []),
        ({"OMP_NUM_THREADS": "2"}, []),
        ({"OMP_WAIT_POLICY": "passive"}, ["unset OMP_WAIT_POLICY"]),
        ({"OMP_NUM_THREADS": "3"}, ["unset OMP_NUM_THREADS"]),
        ({"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "9"}, ["unset OMP_WAIT_POLICY", "unset OMP_NUM_THREADS"]),
    ],
)
def test_thread_settings_that_slow_things_down(environment, words):
    findings = list(doctor.examine_threads(environment, cores=2))
    assert [word in finding.text for word, finding in zip(words, findings, strict=True)] == [True] * len(words)
