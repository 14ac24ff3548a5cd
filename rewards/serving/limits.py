"""What one request, and all of them together, may take: numbers, and the refusal of whatever asks for more."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace

from rewards.errors import UsageError, suggestion
from rewards.images import IMAGE_PIXELS, IMAGE_SIDE


@dataclass(frozen=True)
class Limits:
    """Limits of a server, told to its clients; `--limit NAME=VALUE` changes one.

    Sizes are bytes as sent, except `held_bytes`: the bodies and decoded pixels (4 bytes each) of all requests at once.
    `queue_images` wait for each reward at most; `request_seconds` is how long a request may take to arrive.
    """

    images: int = 64
    image_bytes: int = 16 * 2**20
    image_pixels: int = IMAGE_PIXELS
    image_side: int = IMAGE_SIDE
    request_bytes: int = 64 * 2**20
    request_pixels: int = 2**26
    request_seconds: float = 60
    json_bytes: int = 2**20
    prompt_characters: int = 10_000
    queue_images: int = 1024
    held_bytes: int = 2**30

    def to_json(self) -> dict[str, int]:
        return asdict(self)


def change_limits(texts: Iterable[str], limits: Limits | None = None) -> Limits:
    """The limits with those that are given as NAME=VALUE; UsageError for a name or value that makes no sense."""
    known = [field.name for field in fields(Limits)]
    limits = limits or Limits()
    for text in texts:
        name, equals, value = (word.strip() for word in text.partition("="))
        if name not in known:
            raise UsageError(f'There is no limit "{name}".{suggestion(name, known)}')
        if not equals or not value.isdecimal() or int(value) < 1:
            raise UsageError(f'--limit {name} takes a whole number from 1 up, as in {name}=64; got "{value}".')
        limits = replace(limits, **{name: int(value)})
    return limits


class Refusal(Exception):
    """A request is not served: the HTTP status, a sentence that says why, and when to try again (seconds)."""

    def __init__(self, status: int, sentence: str, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_after = status, sentence, retry_after


class Held:
    """Counts the bytes that requests hold at the same time, and refuses those beyond `capacity`; thread-safe."""

    def __init__(self, capacity: int) -> None:
        self.capacity, self.bytes = capacity, 0
        self._lock = threading.Lock()

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """What one request holds while the block runs: nothing, and more with every `hold(size)`.

        Raises, from `hold`:
            Refusal: 429, now there is no room; 413, there never will be.
        """
        mine = 0

        def hold(size: int) -> None:
            nonlocal mine
            if mine + size > self.capacity:
                needed = f"This request needs {mine + size} bytes"
                raise Refusal(413, f"{needed}, and all requests share {self.capacity} (held_bytes).")
            with self._lock:
                if self.bytes + size > self.capacity:
                    raise Refusal(429, "The server holds as much as it may; send this again in a moment.", 1.0)
                self.bytes += size
            mine += size

        try:
            yield hold
        finally:
            with self._lock:
                self.bytes -= mine
