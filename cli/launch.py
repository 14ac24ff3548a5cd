"""`--num-processes N`: start N copies of this command that find each other, and end as they end.

They get the variables that torchrun gives, so that `torchrun --no-python dgpo train ...` on several machines is the
same path.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from cli.screen import leave_terminal, say
from dgpo.processes import LOCAL_SIZE, VARIABLES, PeerLost, take_place
from rewards.errors import UsageError
from rewards.exits import BUG, ENVIRONMENT, GATE_FAILED, INTERRUPTED, READER_GONE, SOME_FAILED, WRONG_USE

# How long the others may take to end by themselves: after one has failed, and after a signal has come again.
GRACE_S = 6.0
AT_ONCE_S = 1.0
POLL_S = 0.1
LAUNCHER = "DGPO_LAUNCHER"
LAST_WORDS = "DGPO_LAST_WORDS"
ROOM = 60_000  # bytes that a pipe holds until somebody reads
# Codes of processes that have told what happened.
TOLD = (BUG, WRONG_USE, ENVIRONMENT, GATE_FAILED, SOME_FAILED, INTERRUPTED, READER_GONE)


def has_to_launch(processes: int) -> bool:
    """Whether this process has to start `processes` others; if not, it is one of several, or the only one.

    Raises:
        UsageError: somebody else has started several already.
        SetupError: the environment is that of one of several, and not whole.
    """
    place = take_place()
    if processes == 1 or LAUNCHER in os.environ:
        return False
    if place.size > 1:
        raise UsageError(
            f"--num-processes {processes} starts processes, and this is already one of {place.size}, by WORLD_SIZE and"
            f" its like in the environment. Leave it out (torchrun says how many), or unset {', '.join(VARIABLES)}."
        )
    return True


def leave_with_launcher() -> None:
    """End this process when the one that launched it is gone (kill -9), lest it works on beside the next command."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is not None:
        threading.Thread(target=_watch, args=(int(launcher),), daemon=True).start()


def say_last(sentence: str) -> None:
    """Say why this process ends; one of several leaves that to its launcher, which says the same thing once."""
    pipe = os.environ.get(LAST_WORDS)
    if pipe is None:
        say(sentence)
    else:
        os.write(int(pipe), sentence.encode(errors="surrogateescape")[:ROOM])


def launch(processes: int) -> int:
    """Run this process's own command in N processes; the exit code of the first that failed, otherwise 0.

    When one fails, the others, which would wait for it for ever, are ended. Signals are passed on, and the same again
    ends all of them: one that waits for the others cannot hear it.
    """
    port = _free_port()
    team = _Team([_Child(rank, processes, port) for rank in range(processes)])
    before = {number: signal.signal(number, team.pass_on) for number in signals_to_heed()}
    try:
        return team.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def signals_to_heed() -> list[signal.Signals]:
    """Those that ask for an end. A closed terminal (SIGHUP, often twice) does not where it is ignored, as by nohup."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


class _Child:
    """One of the processes, and the pipe for its last words."""

    def __init__(self, rank: int, processes: int, port: int) -> None:
        self.name = f"process {rank} of {processes}"
        self.ended_by_us = False
        self._words, words = os.pipe()
        os.set_blocking(self._words, False)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC_")}
        environment |= {
            LAUNCHER: str(os.getpid()),
            LAST_WORDS: str(words),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            LOCAL_SIZE: str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        command = [sys.executable, *sys.orig_argv[1:]]
        self.process = subprocess.Popen(command, env=environment, start_new_session=True, pass_fds=[words])
        os.close(words)

    @property
    def code(self) -> int | None:
        return self.process.poll()

    def read_words(self) -> str:
        try:
            return os.read(self._words, ROOM).decode(errors="surrogateescape")
        except BlockingIOError:  # a program that it has started still holds the other end
            return ""

    def end(self) -> None:
        """With the programs that it has started."""
        self.ended_by_us = True
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


class _Team:
    """The processes of one command, waited for together."""

    def __init__(self, children: Sequence[_Child]) -> None:
        self.running = list(children)
        self.failed: list[_Child] = []
        self.said: set[str] = set()
        self.heard: set[int] = set()
        self.hurried = False
        self.deadline = float("inf")

    def pass_on(self, number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        elif number in self.heard:
            self.hurried = True
            self._hurry(AT_ONCE_S)
        self.heard.add(number)
        for child in self.running:
            if child.code is None:
                child.process.send_signal(number)

    def wait(self) -> int:
        while self.running:
            time.sleep(POLL_S)
            for child in [child for child in self.running if child.code is not None]:
                self.running.remove(child)
                self._hear(child)
            if time.monotonic() > self.deadline:
                for child in self.running:
                    child.end()
        return self._conclude()

    def _hear(self, child: _Child) -> None:
        if child.code and not child.ended_by_us:
            self.failed.append(child)
            self._hurry(GRACE_S)
        words = child.read_words()
        if words and words not in self.said and child.code != PeerLost.exit_code:
            self.said.add(words)
            say(words)

    def _hurry(self, seconds: float) -> None:
        self.deadline = min(self.deadline, time.monotonic() + seconds)

    def _conclude(self) -> int:
        """The code of the first to fail; whoever has only lost another is not the cause."""
        causes = sorted(self.failed, key=lambda child: child.code == PeerLost.exit_code)
        if not causes:
            return 128 + signal.SIGINT if self.hurried else 0
        code = causes[0].code or 0
        if code not in TOLD:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            say(
                f"{causes[0].name} {how}, so the others are stopped; what is finished is kept, and the same command"
                " goes on from there"
            )
        return 128 - code if code < 0 else code


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
