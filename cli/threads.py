"""How many threads compute: what the machine lends this command, dealt to its processes and their scoring workers.

Two threads that share a core slow each other many times over, since each waits for the other at every operation.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from cli.provenance import available_cores
from dgpo.processes import find_place

# What torch and its libraries read. Whoever has set one of them has decided already.
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def share_cores(workers: int) -> int:
    """Give torch the cores of this process that its scoring workers leave; the number of threads, for a record."""
    import torch

    left = _share(os.environ, available_cores()) - workers
    torch.set_num_threads(decided_threads(os.environ) or max(1, left))
    return torch.get_num_threads()


def scoring_threads(workers: int) -> int:
    """Threads of each scoring worker where nothing else computes."""
    return decided_threads(os.environ) or max(1, available_cores() // max(workers, 1))


def decided_threads(environment: Mapping[str, str]) -> int | None:
    """The number of threads that the environment names; None where nobody has decided."""
    for name in VARIABLES:
        first = environment.get(name, "").split(",")[0].strip()
        if first.isdecimal() and int(first) > 0:
            return int(first)
    return None


def _share(environment: Mapping[str, str], cores: int) -> int:
    """The cores of one of the processes that a launcher has started on this machine."""
    return cores // find_place(environment).local_size
