"""What the code of a reward does to the process that it runs in ends with it."""

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout

_change = threading.Lock()
_inside = 0
_undo = ExitStack()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Prints (C libraries' too) go to stderr; another directory, no gradients, a fork are undone at the end.

    Several threads may be inside; stdout and directory are put back when the last one leaves.
    """
    process = os.getpid()
    torch = sys.modules.get("torch")
    gradients = torch.is_grad_enabled() if torch is not None else True
    _enter()
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(1)  # a fork would go on beside its parent, with the same connections and files
        _leave()
        if "torch" in sys.modules:
            sys.modules["torch"].set_grad_enabled(gradients)


def _enter() -> None:
    global _inside
    with _change:
        if _inside == 0:
            folder = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
            _undo.callback(os.close, folder)
            _undo.callback(os.fchdir, folder)
            if sys.__stdout__ is not None and sys.__stderr__ is not None:  # else these numbers may be other files
                _turn_stdout_to_stderr()
            _undo.enter_context(redirect_stdout(sys.stderr))
        _inside += 1


def _leave() -> None:
    global _inside
    with _change:
        _inside -= 1
        if _inside == 0:
            _undo.close()


def _turn_stdout_to_stderr() -> None:
    """For what is written without Python's `sys.stdout`."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    _undo.callback(os.close, stdout)
    _undo.callback(os.dup2, stdout, 1)
    _undo.callback(ctypes.CDLL(None).fflush, None)  # what C has not written yet
