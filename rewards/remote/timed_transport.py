"""A network for httpx on which a whole answer has an end, its headers included; httpx bounds each read alone, so that a
server which sends a byte now and then is waited for without end."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ssl import SSLContext
from typing import Any

import httpcore


class TimedNetwork(httpcore.NetworkBackend):
    """Connections whose reads and writes end with the `within` block of the thread that makes them."""

    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()
        self._here = threading.local()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        self._here.end = time.monotonic() + seconds
        try:
            yield
        finally:
            del self._here.end

    def left(self, timeout: float | None) -> float | None:
        """What remains of a timeout; raises httpcore.ReadTimeout when the time is over."""
        end = getattr(self._here, "end", None)
        if end is None:
            return timeout
        remaining = end - time.monotonic()
        if remaining <= 0:
            raise httpcore.ReadTimeout("an answer that was not complete in time")
        return remaining if timeout is None else min(timeout, remaining)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._inner.connect_tcp(host, port, self.left(timeout), local_address, socket_options)
        return _Stream(stream, self)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, network: TimedNetwork) -> None:
        self._inner, self._network = inner, network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, self._network.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._network.left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, self._network.left(timeout)), self._network)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
