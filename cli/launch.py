"""`--num-processes N`: start N copies of the command that find each other, and end as they end.

They get the variables that accelerate and torch.distributed read, so `accelerate launch -m cli.main train ...` on
several machines is the same path.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from cli.screen import say

GRACE_S = 60.0
HURRY_S = 1.0
LAUNCHER = "DGPO_LAUNCHER"


def launched() -> bool:
    """Whether this process is already one of several."""
    return "WORLD_SIZE" in os.environ


def leave_with_launcher() -> None:
    """End this process when the one that launched it is gone (kill -9), lest it works on beside the next command."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is not None:
        threading.Thread(target=_watch, args=(int(launcher),), daemon=True).start()


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(1)


def launch(processes: int) -> int:
    """Run this process's own command in N processes; the exit code of the first that did not end with 0.

    Ctrl-C and SIGTERM are passed on to every process, and the same again ends all of them: one that waits for the
    others cannot hear it. When one fails, the others, which would wait for it for ever, are ended.
    """
    port = _free_port()
    children = [_start(rank, processes, port) for rank in range(processes)]
    heard: set[int] = set()

    def pass_on(number: int, _frame: Any) -> None:
        _pass_on(children, number)
        if number in heard:
            hurry = threading.Timer(HURRY_S, _kill, [children])
            hurry.daemon = True
            hurry.start()
        heard.add(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _wait(children)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(rank: int, processes: int, port: int) -> subprocess.Popen:
    environment = {
        **os.environ,
        LAUNCHER: str(os.getpid()),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    return subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=environment, start_new_session=True)


def _pass_on(children: Sequence[subprocess.Popen], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)


def _wait(children: Sequence[subprocess.Popen]) -> int:
    ended: int | None = None
    while any(child.poll() is None for child in children):
        time.sleep(0.2)
        codes = [child.poll() for child in children]
        if ended is None and any(codes):
            ended = next(code for code in codes if code)
            if ended < 0:
                say(
                    f"process {codes.index(ended)} of {len(codes)} was ended by {signal.Signals(-ended).name}, so the"
                    " others are stopped; what is finished is kept, and the same command goes on from there"
                )
            _end(children)
    codes = [child.returncode for child in children]
    first = ended if ended is not None else next((code for code in codes if code), 0)
    return 128 - first if first < 0 else first


def _end(children: Sequence[subprocess.Popen]) -> None:
    """Give the others a moment to end by themselves (they may be saving), then end them."""
    deadline = time.monotonic() + GRACE_S / 10
    while any(child.poll() is None for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    _kill(children)


def _kill(children: Sequence[subprocess.Popen]) -> None:
    for child in children:
        if child.poll() is None:
            child.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
