"""Ask a server over HTTP, again and again while it is away, until a deadline."""

import logging
import os
import random
import ssl
import threading
import time
from typing import Any

from rewards.errors import UsageError, load_extra
from rewards.escape import escape_controls
from rewards.remote.replies import Bounds, Reply, Unbounded
from rewards.secrets import read_secret

log = logging.getLogger(__name__)

CLIENT_TOKEN = "DGPO_REWARD_TOKEN"
DEADLINE = "DGPO_REWARD_DEADLINE_S"
DEADLINE_S = 120.0
# The answers of a server, or of what stands before it, that is busy or on its way down or up.
AWAY = (429, 502, 503, 504)
_CONNECT_S = 5.0
_LONGEST_PAUSE_S = 5.0


class OutOfReach(Exception):
    """No usable answer until the deadline; says what happened last."""


class Connection:
    """One server, for any number of threads; connections are kept open between requests.

    Args:
        base: http(s)://host:port, and a path if there is one before /v1.
        deadline_s: for how long a server may be away, counted from the first failure; later requests share that time,
            so that a dead server does not cost it once per request. An answer may take half of it.
    """

    def __init__(self, base: str, deadline_s: float | None = None) -> None:
        self.base = base
        self.deadline_s = read_deadline() if deadline_s is None else deadline_s
        self._library = load_extra("httpx", "remote")
        from rewards.remote.timed_transport import TimedNetwork

        token = read_secret(CLIENT_TOKEN)
        self._network = TimedNetwork()
        transport = self._library.HTTPTransport(
            limits=self._library.Limits(max_connections=32, keepalive_expiry=30),
            verify=ssl.create_default_context() if base.startswith("https:") else True,
            trust_env=False,
        )
        transport._pool._network_backend = self._network  # httpx offers no other way to it
        self._client = self._library.Client(
            transport=transport,
            base_url=base,
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {token}"} if token else {}),
            timeout=self._library.Timeout(self.deadline_s / 2, connect=min(_CONNECT_S, self.deadline_s)),
            trust_env=False,
        )
        self._lock = threading.Lock()
        self._away_since: float | None = None
        self._told = False
        self._random = random.Random()

    def ask(self, method: str, path: str, patience_s: float | None = None, **rest: Any) -> Reply:
        """The answer, whatever its status, unless that says that the server is away.

        Raises:
            OutOfReach: the server was away for `patience_s` (otherwise for the deadline).
        """
        patience_s = self.deadline_s if patience_s is None else patience_s
        pause = 0.1
        while True:
            began = time.monotonic()
            response, reason, wait = self._try(method, path, patience_s, rest)
            if response is not None:
                self._is_back()
                return response
            left = self._went_away(began, reason, patience_s) + patience_s - time.monotonic()
            if left <= 0:
                raise OutOfReach(f"{reason} (tried for {patience_s:g} s)")
            time.sleep(min(left, max(wait, pause * self._random.uniform(0.5, 1.0))))
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _try(self, method: str, path: str, seconds: float, rest: dict[str, Any]) -> tuple[Reply | None, str, float]:
        bounds = Bounds(seconds)
        try:
            with self._network.within(seconds), self._client.stream(method, path, **rest) as response:
                for piece in response.iter_bytes():
                    bounds.add(piece)
        except self._library.TransportError as error:
            if time.monotonic() >= bounds.end:
                return None, str(bounds.too_slow()), 0.0
            return (
                None,
                escape_controls(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__),
                0.0,
            )
        except Unbounded as error:
            return None, str(error), 0.0
        reply = Reply(response.status_code, response.headers, bytes(bounds.pieces))
        if reply.status_code in AWAY:
            return None, f"HTTP {reply.status_code}: {reply.text[:200]}", _read_wait(reply)
        return reply, "", 0.0

    def _went_away(self, began: float, reason: str, patience_s: float) -> float:
        with self._lock:
            if self._away_since is None:
                self._away_since = began
                self._told = False
            elif not self._told:  # what is gone at the second try is nothing to speak of
                self._told = True
                log.warning("waiting for %s (%s), giving up after %g s", self.base, reason, patience_s)
            return self._away_since

    def _is_back(self) -> None:
        with self._lock:
            if self._away_since is not None and self._told:
                log.warning("%s answers again, after %.1f s", self.base, time.monotonic() - self._away_since)
            self._away_since, self._told = None, False


def read_deadline() -> float:
    """Seconds that a server may be away: DGPO_REWARD_DEADLINE_S, or 120."""
    text = os.environ.get(DEADLINE)
    if text is None:
        return DEADLINE_S
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise UsageError(f'{DEADLINE} is a number of seconds above 0; it is "{text}".')
    return value


def _read_wait(response: Reply) -> float:
    """Retry-After in seconds, where it says so; at most a few, as the deadline runs."""
    text = response.headers.get("retry-after", "")
    return min(float(text), _LONGEST_PAUSE_S) if text.isdecimal() else 0.0
