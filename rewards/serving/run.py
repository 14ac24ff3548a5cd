"""Run a reward server until a signal ends it."""

import socket
from types import FrameType
from typing import Any

from rewards.errors import SetupError, load_extra
from rewards.serving.app import Service, build_app

CONNECTIONS = 1024
DRAIN_S = 30


def bind(host: str, port: int) -> socket.socket:
    """A listening place; port 0 takes a free one. SetupError where there is none to be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or else asyncio leaves Nagle's algorithm on, and every answer takes 40 ms longer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise SetupError(
            f"Cannot listen on {host}:{port} ({error.strerror or error}); choose another --port."
        ) from None
    return listener


def make_server(service: Service, drain_s: int = DRAIN_S) -> Any:
    """A uvicorn server of a service. On SIGTERM or Ctrl-C it takes no new work and answers what it has.

    After `drain_s` seconds, or at a second signal, it ends without.
    """
    uvicorn = load_extra("uvicorn", "serve")

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            service.stop()
            self.force_exit = self.should_exit
            self.should_exit = True

    config = uvicorn.Config(
        build_app(service),
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=drain_s,
    )
    return Server(config)
