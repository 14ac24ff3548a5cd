"""What every test stands on."""

import os
import shutil
import signal
import tempfile

import pytest

from tests.unpack import unpack


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C work in the programs that tests start, even in a shell's background, where it is ignored.

    Recorded files are unpacked once, before any of several processes of tests is started; so is a cache made, which
    they and their programs share.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        unpack()
        os.environ["DGPO_EMBEDDINGS_DIR"] = tempfile.mkdtemp(prefix="embeddings-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ["DGPO_EMBEDDINGS_DIR"])
