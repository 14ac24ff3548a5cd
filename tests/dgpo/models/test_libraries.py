"""The libraries are silent while a model is loaded, and heard, once, while it draws."""

import io
import logging

import diffusers.utils.logging
import pytest
import transformers.utils.logging

from cli.model import choose_model, load_choice
from dgpo.models.libraries import hushed_loading
from rewards.prompt import Prompt
from tests.dgpo.unet import save_unet

LIBRARIES = (diffusers.utils.logging, transformers.utils.logging)


def state():
    return [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in LIBRARIES]


@pytest.fixture
def heard(monkeypatch):
    """What diffusers' own handler writes, nothing having been said before."""
    handler = next(one for one in logging.getLogger("diffusers").handlers if type(one) is logging.StreamHandler)
    stream = io.StringIO()
    monkeypatch.setattr(handler, "stream", stream)
    monkeypatch.setattr(handler, "filters", [])
    return stream


def test_a_warning_while_drawing_is_heard_once_and_no_bar_is_drawn(tmp_path, heard, capsys):
    before = state()
    folder = save_unet(tmp_path / "unet")
    model = load_choice(choose_model(str(folder)), {"height": 32, "width": 32, "steps": 1}, "fp32")
    assert state() == before
    capsys.readouterr()
    too_long = Prompt("a red sign that says " + 20 * "very long ")
    model.make_images([(too_long, seed) for seed in range(6)])  # two calls of the pipeline
    assert heard.getvalue().count("truncated because CLIP can only handle") == 1
    assert capsys.readouterr().err == ""


def test_only_errors_are_heard_while_loading_and_what_was_set_comes_back_after_a_failure(heard):
    log = logging.getLogger("diffusers.somewhere")
    before = state()

    def fail():
        with hushed_loading():
            log.warning("advice")
            log.error("a fault")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert heard.getvalue() == "a fault\n"
    assert state() == before


def test_every_error_is_heard(heard):
    log = logging.getLogger("diffusers.somewhere")
    with hushed_loading():
        pass
    for number in range(2):
        log.warning("warning %d", number)
        log.error("error %d", number)
    assert heard.getvalue().split("\n") == ["warning 0", "error 0", "error 1", ""]
