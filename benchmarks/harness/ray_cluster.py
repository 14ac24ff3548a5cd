"""A Ray cluster for one command: the running one that RAY_ADDRESS names, or one on this machine that ends with it."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import benchmarks
from rewards.errors import SetupError, UsageError, load_extra

ADDRESS = "RAY_ADDRESS"
HERE = ("", "local")
# Ray itself would wait for minutes for a machine that does not answer.
CONNECT_S = 10.0
# The actors and tasks of a local cluster find this package first, and nothing in the folder that they are started in.
HOME = str(Path(benchmarks.__file__).parents[1])
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_prestart_worker_first_driver": "0",
}


def is_running_elsewhere() -> bool:
    """Whether there is a cluster to use already; otherwise one is started on this machine."""
    return os.environ.get(ADDRESS, "") not in HERE


@contextmanager
def open_cluster(cores: Callable[[], int]) -> Iterator[tuple[Any, str]]:
    """The module `ray`, connected, and a description of the cluster.

    Args:
        cores: of a local cluster, for its actors and tasks.

    Raises:
        SetupError: Ray is not installed, or does not answer.
        UsageError: RAY_ADDRESS is of a kind that is not used.
    """
    address = os.environ.get(ADDRESS, "")
    if address.startswith("ray://"):
        raise UsageError(
            f"{ADDRESS}={address} is for Ray's client, which this does not go through; run this command on a machine "
            f"of the cluster with {ADDRESS}=HOST:6379 or {ADDRESS}=auto."
        )
    with ExitStack() as opened:
        opened.enter_context(_environment({name: os.environ.get(name, value) for name, value in QUIET.items()}))
        ray = load_extra("ray", "ray")
        load_extra("ray.data.exceptions", "ray")
        _hush()
        if is_running_elsewhere():
            opened.callback(ray.shutdown)
            _connect(ray, address)
            total = ray.cluster_resources()
            named = f"the cluster at {address} (cores: {total.get('CPU', 0):g}, GPUs: {total.get('GPU', 0):g})"
        else:
            # Ray's sockets lie in it, whose names may have about a hundred characters.
            folder = opened.enter_context(
                TemporaryDirectory(
                    prefix="dgpo-ray-", dir=os.environ.get("RAY_TMPDIR", "/tmp"), ignore_cleanup_errors=True
                )
            )
            opened.callback(ray.shutdown)
            path = os.pathsep.join([HOME, *filter(None, [os.environ.get("PYTHONPATH")])])
            with _environment({"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}), chdir(folder):
                _connect(ray, "local", num_cpus=cores(), include_dashboard=False, _temp_dir=folder)
            named = "a cluster on this machine, for this command"
        yield ray, named


def _connect(ray: Any, address: str, **settings: Any) -> None:
    try:
        host, colon, port = address.rpartition(":")
        if colon and port.isdecimal():
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
        with _silent():
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (OSError, RuntimeError, ValueError, OverflowError) as error:
        words = " ".join(str(error).split())[:300]
        if address in HERE:
            raise SetupError(f"Ray did not start on this machine ({words}).") from error
        raise SetupError(
            f"The Ray cluster that {ADDRESS}={address} names does not answer ({words}). Start it with `ray start "
            f"--head`, or unset {ADDRESS} for one on this machine."
        ) from error


@contextmanager
def _silent() -> Iterator[None]:
    """While Ray's libraries start, which tell stderr at what level they log; what goes wrong is raised."""
    sys.stderr.flush()
    with ExitStack() as undo:
        stderr = os.dup(2)
        undo.callback(os.close, stderr)
        undo.callback(os.dup2, stderr, 2)
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield


def _hush() -> None:
    """Ray Data's remarks go to its log and not to the screen; what is an error is raised."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
