"""Run a reward server until a signal ends it."""

import socket
from types import FrameType
from typing import Any

from rewards.errors import SetupError, load_extra
from rewards.serving.app import Service, build_app

CONNECTIONS = 1024
DRAIN_S = 30
HEADER_S = 10.0


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


def make_server(service: Service, drain_s: int = DRAIN_S, header_s: float = HEADER_S) -> Any:
    """A uvicorn server of a service. On SIGTERM or Ctrl-C it takes no new work and answers what it has.

    After `drain_s` seconds, or at a second signal, it ends without. A connection is closed whose first request does not
    begin, or the headers of any request do not end, within `header_s` seconds.
    """
    uvicorn = load_extra("uvicorn", "serve")

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            service.stop()
            self.force_exit = self.should_exit
            self.should_exit = True

    def give_up() -> None:
        server.should_exit = True

    service.on_broken = give_up
    config = uvicorn.Config(
        build_app(service),
        http=_impatient(header_s),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_keep_alive=round(header_s) + 50,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=drain_s,
    )
    server = Server(config)
    return server


def _impatient(header_s: float) -> Any:
    """uvicorn's HTTP/1.1, which waits for the rest of a request's headers for ever, with an end to that."""
    protocol = load_extra("uvicorn.protocols.http.h11_impl", "serve").H11Protocol

    class Impatient(protocol):
        _timer: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _watch(self) -> None:
            """The clock runs from the first byte of headers (or the opening) to their last."""
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop()
            elif self._timer is None:
                self._timer = self.loop.call_later(header_s, self.transport.close)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Impatient
