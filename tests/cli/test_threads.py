import os
import subprocess
import sys

import pytest
import torch

from cli.provenance import limited_cores
from cli.threads import VARIABLES, decided_threads, scoring_threads, share_cores


@pytest.fixture
def environment(monkeypatch):
    """Four cores, nothing decided, and torch's threads put back afterwards."""
    before = torch.get_num_threads()
    monkeypatch.setattr("cli.threads.available_cores", lambda: 4)
    for name in (*VARIABLES, "LOCAL_WORLD_SIZE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("processes", "workers", "threads"), [(1, 0, 4), (1, 1, 3), (1, 9, 1), (2, 0, 2), (2, 1, 1), (8, 1, 1)]
)
def test_cores_are_dealt_to_processes_and_their_scoring_workers(environment, processes, workers, threads):
    facts = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": processes, "MASTER_ADDR": "node0", "MASTER_PORT": 1}
    for name, value in facts.items():
        environment.setenv(name, str(value))
    share_cores(workers)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", VARIABLES)
def test_whoever_has_set_a_number_has_decided(environment, name):
    environment.setenv(name, "3")
    share_cores(9)
    assert torch.get_num_threads() == 3
    assert scoring_threads(1) == scoring_threads(2) == 3


@pytest.mark.parametrize(("workers", "threads"), [(0, 4), (1, 4), (2, 2), (9, 1)])
def test_scoring_workers_share_what_nobody_else_uses(environment, workers, threads):
    assert scoring_threads(workers) == threads


@pytest.mark.parametrize(
    ("value", "decided"), [("2", 2), (" 2", 2), ("4,2", 4), ("", None), ("0", None), ("many", None), ("-1", None)]
)
def test_decided_threads(value, decided):
    assert decided_threads({"OMP_NUM_THREADS": value}) == decided


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", 8), ("max", 8), ("", 8), ("200000 100000", 2), ("150000 100000", 1)]
)
def test_a_container_limits_the_cores(limit, cores):
    assert limited_cores(8, limit) == cores


PROBE = """
import os, sys
from cli.provenance import available_cores
from cli.threads import share_cores
import torch
share_cores(0)
print(available_cores(), torch.get_num_threads())
"""


def probe(before: str = "", **variables: str) -> list[int]:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    words = [sys.executable, "-c", before + PROBE]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=True, timeout=120)
    return [int(word) for word in done.stdout.split()]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_torch_keeps_to_the_cores_that_this_process_may_use():
    assert probe("import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})") == [1, 1]


@pytest.mark.parametrize("name", VARIABLES)
def test_torch_takes_the_number_from_the_environment(name):
    assert probe(**{name: "1"})[1] == 1
