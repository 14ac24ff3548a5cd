"""Where the processes of one evaluation meet, with a real store in a process that is then killed."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from cli.launch import LAUNCHER, leave_with_launcher
from cli.peers import Peers, join_peers
from dgpo.processes import PeerLost, find_place, meet

STORE = """
import sys, torch.distributed
store = torch.distributed.TCPStore("127.0.0.1", int(sys.argv[1]), is_master=True, wait_for_workers=False)
print("open", flush=True)
sys.stdin.read()
"""

CAME = """
import sys, torch.distributed
store = torch.distributed.TCPStore("127.0.0.1", int(sys.argv[1]), is_master=False, wait_for_workers=False)
torch.distributed.PrefixStore("dgpo/0", store).set("here/0", "")
"""


@pytest.fixture
def meeting_place(monkeypatch):
    """The process at MASTER_ADDR; this one's environment is that of a process which torchrun has started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = subprocess.Popen(
        [sys.executable, "-c", STORE, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert place.stdout is not None
    assert place.stdout.readline() == "open\n"
    subprocess.run([sys.executable, "-c", CAME, str(port)], check=True)
    facts = {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in {**facts, "TORCHELASTIC_USE_AGENT_STORE": "True"}.items():
        monkeypatch.setenv(name, str(value))
    yield place
    place.kill()
    place.wait()


def test_a_single_process_has_no_peers(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_peers() is None
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join_peers() is None


def test_numbers_are_dealt_once_and_words_are_heard_until_the_main_process_is_gone(meeting_place):
    peers, place = join_peers(), find_place()
    other = Peers(place.rank, place.size, meet(place))
    assert peers is not None
    assert (peers.rank, peers.size) == (1, 2)
    assert [peers.take(), other.take(), peers.take()] == [0, 1, 2]
    assert (peers.count(16), other.count(4), peers.count(0)) == (16, 20, 20)
    waited = []
    threading.Timer(0.5, lambda: other.tell("opened", "yes")).start()
    assert peers.hear("opened", lambda: waited.append(1)) == "yes"
    assert waited
    meeting_place.kill()
    meeting_place.wait()
    with pytest.raises(PeerLost, match="what is finished is kept"):
        peers.hear("closed", lambda: None)
    with pytest.raises(PeerLost):
        peers.take()
    peers.leave()


def test_a_process_leaves_with_its_launcher():
    """A launcher that is killed at once; its child would otherwise sleep for a minute."""
    child = (
        "import time; from cli.launch import leave_with_launcher; leave_with_launcher(); print('here', flush=True);"
        " time.sleep(60)"
    )
    launcher = (
        "import os, subprocess, sys; os.environ['DGPO_LAUNCHER'] = str(os.getpid());"
        f" subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    )
    assert LAUNCHER == "DGPO_LAUNCHER"
    process = subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE, env={**os.environ, **_path()})
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    process.kill()
    assert process.stdout.read() == b""  # comes when the last process that holds the pipe has ended
    assert process.wait() == -9


def test_a_process_that_nobody_launched_stays(monkeypatch):
    monkeypatch.delenv(LAUNCHER, raising=False)
    before = threading.active_count()
    leave_with_launcher()
    assert threading.active_count() == before


def _path() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(sys.path)}
