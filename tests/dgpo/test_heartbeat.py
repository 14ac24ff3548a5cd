"""Who is missed, by hand; and a real process that is stopped, as one whose machine has lost its network."""

import multiprocessing
import os
import signal
import socket
import sys

import torch

from dgpo import heartbeat
from dgpo.heartbeat import LEFT, LOST_S, Silence
from dgpo.parallel import Ranks
from dgpo.processes import PeerLost


def test_who_says_nothing_new_is_missed_after_a_while():
    silence = Silence([1, 2])
    silence.hear({1: "1"}, 10)  # 2 has not begun
    silence.hear({1: "2", 2: "1"}, LOST_S)
    assert silence.seconds == {1: 0, 2: 0}
    silence.hear({1: "3", 2: "1"}, LOST_S)
    assert silence.lost == []
    silence.hear({1: "4", 2: "1"}, 10)
    assert silence.lost == [2]
    silence.hear({1: "5", 2: "2"}, 10)
    assert silence.lost == []


def test_who_has_left_is_not_missed():
    silence = Silence([1])
    for _ in range(3):
        silence.hear({1: LEFT}, LOST_S)
    assert silence.lost == []


def test_all_are_missed_by_one_that_hears_nobody():
    silence = Silence([0, 2])
    silence.hear({0: "7", 2: "7"}, 10)
    silence.hear({}, LOST_S + 1)
    assert silence.lost == [0, 2]


def wait_together(rank, port):
    torch.set_num_threads(1)
    heartbeat.BEAT_S, heartbeat.LOST_S = 0.2, 3.0
    facts = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in facts.items()})
    ranks = Ranks(cpu=True, on_note=lambda sentence: print(sentence, file=sys.stderr, flush=True))
    ranks.wait()
    if rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)  # its connections stay open, and it answers nothing
    ranks.wait()


def test_a_process_that_is_stopped_ends_the_other(capfd):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=wait_together, args=(rank, port)) for rank in range(2)]
    for process in both:
        process.start()
    both[0].join(timeout=120)
    both[1].kill()
    assert both[0].exitcode == PeerLost.exit_code
    assert "nothing was heard of process 1 (RANK)" in capfd.readouterr().err
