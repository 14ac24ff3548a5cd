"""The folders and files that settings name, by absolute paths, so that a run goes on in any working directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dgpo.models.find import EMBEDDED, expand

if TYPE_CHECKING:
    from dgpo.config import Config


def anchor_places(config: Config) -> Config:
    """The same config; what is no folder or file here (a hub id, a suite) stays as it is."""
    places = {
        "model": config.model if config.model == EMBEDDED else _folder(config.model),
        "data": _folder(config.data),
        "prompts": _file(config.prompts),
        "weights": tuple(map(_weights, config.weights)),
        "source": config.source.model_copy(update={"folder": _folder(config.source.folder)}),
        "evaluation": config.evaluation.model_copy(update={"suite": _file(config.evaluation.suite)}),
    }
    return config.model_copy(update=places)


def _folder(text: str | None) -> str | None:
    if text is None:
        return None
    path = os.path.abspath(expand(text))
    return path if os.path.isdir(path) else text


def _file(text: str | None) -> str | None:
    """A prompt file; what has no ending is the name of a suite."""
    if text is None or not os.path.splitext(text)[1]:
        return text
    path = os.path.abspath(expand(text))
    return path if os.path.isfile(path) else text


def _weights(text: str) -> str:
    """NAME=DIR."""
    name, equals, folder = text.partition("=")
    return f"{name}={_folder(folder.strip())}" if equals else text
