"""What Prometheus reads: requests, images, failures, batches, the queue, and how long answers take."""

from collections.abc import Callable

from rewards.errors import load_extra

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one server, in a registry of their own.

    Args:
        waiting: how many images are in the queue now.
        held: how many bytes all requests hold now.
    """

    def __init__(self, waiting: Callable[[], int], held: Callable[[], int]) -> None:
        self._library = load_extra("prometheus_client", "serve")
        counter, histogram, gauge = self._library.Counter, self._library.Histogram, self._library.Gauge
        self.registry = self._library.CollectorRegistry()
        rest = {"registry": self.registry}
        self._requests = counter("dgpo_requests", "Requests by path and HTTP status.", ["path", "status"], **rest)
        self._images = counter("dgpo_images", "Images that were judged.", ["reward"], **rest)
        self._failed = counter("dgpo_failed_images", "Images that have no score.", ["reward"], **rest)
        self._batches = histogram("dgpo_batch_images", "Images per batch.", ["reward"], buckets=_IMAGES, **rest)
        self._seconds = histogram(
            "dgpo_request_seconds", "From the first byte to the answer.", ["path"], buckets=_SECONDS, **rest
        )
        gauge("dgpo_queue_images", "Images that wait for a batch.", **rest).set_function(waiting)
        gauge("dgpo_held_bytes", "Bodies and pixels that requests hold.", **rest).set_function(held)

    @property
    def content_type(self) -> str:
        return self._library.CONTENT_TYPE_LATEST

    def count_request(self, path: str, status: int, seconds: float) -> None:
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def count_batch(self, key: str, size: int) -> None:
        self._batches.labels(key).observe(size)

    def count_images(self, key: str, judged: int, failed: int) -> None:
        self._images.labels(key).inc(judged)
        self._failed.labels(key).inc(failed)

    def render(self) -> bytes:
        return self._library.generate_latest(self.registry)
