"""A reward server on this machine's loopback, in a thread of this process."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rewards.remote.client import forget_servers
from rewards.serving.app import Service
from rewards.serving.engine import Engine
from rewards.serving.run import bind, make_server
from rewards.spec import RewardSpec


@dataclass(frozen=True)
class Running:
    service: Service
    server: Any
    port: int

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)


@contextmanager
def serving(
    specs: Sequence[RewardSpec], port: int = 0, version: str = "dgpo test", workers: int = 0, **rest: Any
) -> Iterator[Running]:
    """A server of these rewards while the block runs; `rest` goes to the Service."""
    forget_servers()
    service = Service(Engine(specs, workers, version=version), version=version, **rest)
    listener = bind("127.0.0.1", port)
    server = make_server(service, drain_s=5)
    thread = threading.Thread(target=server.run, args=([listener],))
    running = Running(service, server, listener.getsockname()[1])
    thread.start()
    try:
        wait_for(lambda: service.ready)
        yield running
    finally:
        service.stop()
        server.should_exit = True
        thread.join()
        forget_servers()


def wait_for(condition: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing within {seconds} s")
        time.sleep(0.01)
