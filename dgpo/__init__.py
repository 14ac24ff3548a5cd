"""How a diffusion model learns from groups of scored images.

    import dgpo

    config = dgpo.load_config("tiny", {"rewards": ["ocr"], "steps": 40})
    outcome = dgpo.train(config, "runs/mine")

`Config`, `Outcome`, `load_config` and `train` are public; they are imported when they are first used, so that
`import dgpo` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dgpo.config import Config, load_config
    from dgpo.session import Outcome, train

__version__ = "0.1.0"
__all__ = ["Config", "Outcome", "load_config", "train"]

_PLACES = {"Config": "config", "Outcome": "session", "load_config": "config", "train": "session"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'dgpo' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dgpo.{_PLACES[name]}"), name)
