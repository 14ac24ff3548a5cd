"""Two real processes: one keeps the other waiting, one leaves."""

import multiprocessing
import os
import socket
import time
from datetime import timedelta

import pytest
import torch
import torch.distributed

from dgpo.parallel import Ranks
from dgpo.processes import PeerLost


def join(rank, port):
    """Ranks where torch's own patience is a second."""
    torch.set_num_threads(1)
    torch.distributed.distributed_c10d._get_default_timeout = lambda backend: timedelta(seconds=1)
    facts = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in facts.items()})
    return Ranks(cpu=True)


def evaluate_alone(rank, port, told):
    ranks = join(rank, port)
    if ranks.main:
        time.sleep(3)
    ranks.wait()
    told.put((rank, ranks.gather([rank, "x" * rank]), ranks.sum(torch.tensor(float(rank + 1))).item()))


def leave(rank, port, told):
    ranks = join(rank, port)
    if rank == 1:
        os._exit(9)
    for together in (ranks.wait, lambda: ranks.sum(torch.ones(2)), lambda: ranks.gather([1])):
        with pytest.raises(PeerLost, match="cannot be reached any more"):
            together()
    told.put("noticed")


def run_both(work):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    told = context.SimpleQueue()
    both = [context.Process(target=work, args=(rank, port, told)) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(timeout=120)
    return [process.exitcode for process in both], told


def test_ranks_wait_longer_than_torch_would():
    codes, told = run_both(evaluate_alone)
    assert codes == [0, 0]
    assert sorted(told.get() for _ in range(2)) == [(rank, [0, "", 1, "x"], 3.0) for rank in range(2)]


def test_a_rank_that_has_left_is_noticed_in_every_common_operation():
    codes, told = run_both(leave)
    assert codes == [0, 9]
    assert told.get() == "noticed"
