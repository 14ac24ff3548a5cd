"""`--num-processes`: small programs that launch themselves, and die, say and stop in every way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.launch import LAUNCHER, has_to_launch
from dgpo.processes import VARIABLES
from rewards.errors import SetupError, UsageError

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os, signal, sys, time
import cli.launch
from cli.launch import has_to_launch, launch, leave_with_launcher, let_the_cause_end_first, say_last
from dgpo.processes import PeerLost, find_place
if has_to_launch(2):
    sys.exit(launch(int(os.environ.get("AS_MANY", "2"))))
leave_with_launcher()
rank = find_place().rank
def tell(line):
    os.write(1, f"{line}\\n".encode())  # whole, though both write at once
"""
LEFTOVERS = {
    "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "gone", "MASTER_PORT": "1",
    "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "3",
}  # fmt: skip


@pytest.fixture
def start(tmp_path):
    """A program that launches itself twice, then does `body` as `rank`."""
    started = []

    def start(body, **environment):
        (tmp_path / "program.py").write_text(PROGRAM + body)
        clean = {name: value for name, value in os.environ.items() if name not in (*VARIABLES, LAUNCHER)}
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / "program.py"), "some", "words"],
            env={**clean, "PYTHONPATH": str(ROOT), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def end(process):
    out, told = process.communicate(timeout=100)
    return process.returncode, sorted(out.splitlines()), told.splitlines()


def wait_for_both(process):
    assert {process.stdout.readline() for _ in range(2)} == {"0\n", "1\n"}


SHOW = """
tell(f"{rank} {find_place().size} {sys.argv[1:]} {os.environ.get('TORCHELASTIC_RESTART_COUNT')}")
"""


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1"}, LEFTOVERS])
def test_as_many_as_asked_for_are_started_whatever_a_container_has_set(start, environment):
    code, out, told = end(start(SHOW, **environment))
    assert (code, told) == (0, [])
    assert out == [f"{rank} 2 ['some', 'words'] 0" for rank in range(2)]


def test_one_alone_does_not_launch_again(start):
    assert end(start(SHOW, AS_MANY="1")) == (0, ["0 1 ['some', 'words'] 0"], [])


def test_what_all_say_at_the_end_is_said_once(start):
    code, _, told = end(start("say_last('the weights are missing'); sys.exit(3)"))
    assert (code, told) == (3, ["dgpo: the weights are missing"])
    both = "say_last(f'{rank} is ill'); signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1); sys.exit(3)"
    code, _, told = end(start(both))
    assert (code, sorted(told)) == (3, ["dgpo: 0 is ill", "dgpo: 1 is ill"])


def test_long_last_words_are_said_whole(start):
    code, _, (told,) = end(start("say_last('x' * 1_000_000); sys.exit(2)"))
    assert (code, told) == (2, f"dgpo: {'x' * 1_000_000}")


@pytest.mark.parametrize("cause", [0, 1])
def test_who_has_only_lost_another_is_not_the_cause(start, cause):
    """Even if it comes to its end before: it lets the cause end first."""
    body = f"""
if rank == {cause}:
    say_last("the cause")
    time.sleep(0.5)
    sys.exit(4)
say_last("another is gone")
let_the_cause_end_first()
sys.exit(PeerLost.exit_code)
"""
    code, _, told = end(start(body))
    assert (code, told) == (4, ["dgpo: the cause"])


def test_the_others_are_ended_with_one_that_fails_silently(start):
    code, _, (told,) = end(start("os._exit(7) if rank else time.sleep(600)"))
    assert code == 7
    assert "process 1 of 2 ended with exit code 7, so the others are stopped" in told


def test_one_that_is_killed_is_told(start):
    code, _, (told,) = end(start("os.kill(os.getpid(), signal.SIGKILL) if rank else time.sleep(600)"))
    assert code == 128 + signal.SIGKILL
    assert "process 1 of 2 was ended by SIGKILL, so the others are stopped" in told


HEED = """
def stop(number, frame):
    tell(signal.Signals(number).name)
    sys.exit(130)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, stop)
tell(rank)
time.sleep(600)
"""


@pytest.mark.parametrize(("name", "heard"), [("SIGINT", "SIGINT"), ("SIGTERM", "SIGINT"), ("SIGHUP", "SIGHUP")])
def test_signals_are_passed_on(start, name, heard):
    process = start(HEED)
    wait_for_both(process)
    process.send_signal(getattr(signal, name))
    code, out, told = end(process)
    assert (code, out, told) == (130, [heard, heard], [])


def test_a_second_ctrl_c_ends_those_who_do_not_listen_with_all_that_they_started(start):
    deaf = "signal.signal(signal.SIGINT, lambda *_: tell('asked'))\n"
    worker = "import subprocess; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    process = start(deaf + worker + "tell(rank)\nwhile True: time.sleep(1)")
    wait_for_both(process)
    process.send_signal(signal.SIGINT)
    assert [process.stdout.readline() for _ in range(2)] == ["asked\n"] * 2
    process.send_signal(signal.SIGINT)
    code, out, told = end(process)  # comes when the last program that holds the pipe has ended
    assert (code, out, told) == (130, ["asked"] * 2, [])


def test_under_nohup_a_closed_terminal_is_not_heeded(start):
    """It is ignored from the start, which children inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start("tell(rank); time.sleep(1); os.kill(os.getpid(), signal.SIGHUP); sys.exit(5)")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for_both(process)
    process.send_signal(signal.SIGHUP)
    assert end(process)[0] == 5


@pytest.fixture
def outer(monkeypatch):
    """The environment of a process that torchrun has started as one of four."""
    monkeypatch.delenv(LAUNCHER, raising=False)
    facts = {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 4, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
    for name, value in facts.items():
        monkeypatch.setenv(name, str(value))


def test_two_launchers_at_once_are_refused(outer):
    assert not has_to_launch(1)
    with pytest.raises(UsageError, match="--num-processes 4 starts processes, and this is already one of 4"):
        has_to_launch(4)


@pytest.mark.parametrize("processes", [1, 2])
def test_half_an_environment_is_refused(outer, monkeypatch, processes):
    monkeypatch.delenv("RANK")
    with pytest.raises(SetupError, match="lacks RANK"):
        has_to_launch(processes)
