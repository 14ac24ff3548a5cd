"""`--num-processes N`: N copies of this command that find each other, and end as they end.

PyTorch's elastic agent starts them, as torchrun does, so that `torchrun --no-python dgpo train ...` on several machines
is the same path. What is ours: the agent has one exit code, says why once, and passes on what asks for an end.
"""

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cli.screen import leave_terminal, say
from dgpo.processes import VARIABLES, PeerLost, take_place
from rewards.errors import UsageError
from rewards.exits import BUG, ENVIRONMENT, GATE_FAILED, INTERRUPTED, READER_GONE, SOME_FAILED, WRONG_USE

if TYPE_CHECKING:
    from torch.distributed.elastic.agent.server import SimpleElasticAgent
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

# How long the processes may take to end by themselves when a signal has come again.
AT_ONCE_S = 1.0
# How long one that has only lost another waits before it ends: whoever starts processes takes the first for the cause.
LINGER_S = 3.0
POLL_S = 0.1
LAUNCHER = "DGPO_LAUNCHER"
ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
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
    """Say why this process ends; one of several leaves that to our launcher, which says the same thing once.

    torchrun shows it in its summary too, as the error of this process.
    """
    file = os.environ.get(ERROR_FILE)
    if file is not None:
        with suppress(OSError), open(file, "w", encoding="utf-8") as opened:
            json.dump({"message": sentence, "timestamp": int(time.time())}, opened)
    if LAUNCHER not in os.environ:
        say(sentence)


def let_the_cause_end_first() -> None:
    """For a process that ends because another is gone: what started both is to see that one first, and then ends us."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(PeerLost.exit_code))
    time.sleep(LINGER_S)


def launch(processes: int) -> int:
    """Run this process's own command in N processes; the exit code of the first that failed, otherwise 0.

    When one fails, the others, which would wait for it for ever, are ended. Signals are passed on, and the same again
    ends all of them: one that waits for the others cannot hear it.
    """
    os.environ[LAUNCHER] = str(os.getpid())
    for name in [name for name in os.environ if name.startswith("TORCHELASTIC_")]:
        del os.environ[name]  # of a launcher that is gone
    with tempfile.TemporaryDirectory(prefix="dgpo-launch-") as folder:
        team = _Team(_make_agent(processes, folder))
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


def _make_agent(processes: int, folder: str) -> "SimpleElasticAgent":
    """PyTorch's agent for one machine; `folder` takes its notes and its processes' last words."""
    from torch.distributed.elastic.agent.server.api import WorkerSpec
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.rendezvous import RendezvousParameters
    from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it notes, we say in a sentence
    one_machine = RendezvousParameters(
        "c10d", "localhost:0", str(os.getpid()), min_nodes=1, max_nodes=1, local_addr="127.0.0.1", is_host=True
    )
    command = WorkerSpec(
        role="dgpo",
        local_world_size=processes,
        rdzv_handler=get_rendezvous_handler(one_machine),
        entrypoint=sys.executable,
        args=tuple(sys.orig_argv[1:]),
        max_restarts=0,
        local_addr="127.0.0.1",
    )
    return LocalElasticAgent(command, DefaultLogsSpecs(folder))


class _Team:
    """The processes of one command, waited for together."""

    def __init__(self, agent: "SimpleElasticAgent") -> None:
        self.agent = agent
        self.outcome: Future[Any] = Future()
        self.heard: set[int] = set()
        self.hurried = False
        self.deadline = float("inf")
        # In a thread, since in the main one it would end its processes at the first signal.
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self.outcome.set_result(self.agent.run())
        except BaseException as error:  # whoever waits gets it
            self.outcome.set_exception(error)

    def pass_on(self, number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        elif number in self.heard:
            self.hurried = True
            self.deadline = min(self.deadline, time.monotonic() + AT_ONCE_S)
        self.heard.add(number)
        # The agent itself sends SIGTERM to those whose peer has failed; who asks for an end is told apart from that.
        told = signal.SIGINT if number == signal.SIGTERM else number
        for process in self._processes():
            with suppress(ProcessLookupError):
                os.kill(process, told)

    def wait(self) -> int:
        while not self.outcome.done():
            time.sleep(POLL_S)
            if time.monotonic() > self.deadline:
                for process in self._processes():
                    with suppress(ProcessLookupError):
                        os.killpg(process, signal.SIGKILL)  # with the programs that it has started
        failures = self.outcome.result().failures
        if self.hurried:
            return 128 + signal.SIGINT
        return self._conclude(failures) if failures else 0

    def _processes(self) -> list[int]:
        """Numbers of those that run; none before they are started."""
        workers = [worker.id for worker in self.agent.get_worker_group().workers]
        return [process for process in workers if isinstance(process, int)]

    def _conclude(self, failures: "Mapping[int, ProcessFailure]") -> int:
        """The code of the first to fail; whoever has only lost another is not the cause."""
        causes = [(rank, one) for rank, one in failures.items() if one.exitcode != PeerLost.exit_code]
        rank, first = (causes or list(failures.items()))[0]
        for sentence in dict.fromkeys(one.message for _, one in causes if os.path.isfile(one.error_file)):
            say(sentence)
        code = first.exitcode
        if code not in TOLD:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            say(
                f"process {rank} of {self.agent.get_worker_group().spec.local_world_size} {how}, so the others are "
                "stopped; what is finished is kept, and the same command goes on from there"
            )
        return 128 - code if code < 0 else code


def _watch(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(1)
