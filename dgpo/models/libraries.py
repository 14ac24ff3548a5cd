"""What diffusers and transformers write on stderr: nothing while a model is loaded, a warning once while it draws."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hushed_loading() -> Iterator[None]:
    """No bars and advice from the libraries while a model is loaded; their errors still come."""
    import diffusers.utils.logging
    import transformers.utils.logging

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    before = [(library, library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, verbosity, bars in before:
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()
        for name in ("diffusers", "transformers"):
            _warn_once(logging.getLogger(name))


class _OncePerPlace(logging.Filter):
    """Passes what each line of a library's code says first, as Python's own warnings do: a model draws often."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[tuple[str, int]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        place = (record.pathname, record.lineno)
        if record.levelno > logging.WARNING:
            return True
        new = place not in self.said
        self.said.add(place)
        return new


def _warn_once(library: logging.Logger) -> None:
    """For all that reaches the handler that a library made for itself, from whichever of its modules.

    Handlers that others have added there hear everything: they may hear other loggers too.
    """
    for handler in library.handlers:
        if type(handler) is logging.StreamHandler and not any(isinstance(f, _OncePerPlace) for f in handler.filters):
            handler.addFilter(_OncePerPlace())
