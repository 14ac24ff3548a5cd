"""Where the time of a training goes: seconds, CPU seconds and floating-point operations by stage, taken from outside.

Functions of the program are wrapped where it looks them up, so that what is measured is what runs, and put back.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

AROUND = ("checkpoint", "evaluation")  # what stands around an iteration
STAGES = (
    "text encoding", "noise", "drawing", "decoding", "scoring", "learning", "update", "other",
    *AROUND,
)  # fmt: skip


class Stages:
    """A clock that is in one stage at a time: one within another stops the outer one meanwhile."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self.flops: dict[str, int] = defaultdict(int)
        self.copied: dict[str, int] = defaultdict(int)
        """Bytes between host and device."""
        self._counting: Counting | None = None
        self._open = ["other"]
        self._mark = (0.0, 0.0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Between these moments every moment belongs to a stage; what no stage claims is `other`."""
        self._mark = self._now()
        yield
        self._close()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Operations and copies are counted meanwhile, which takes time of its own: not for what is timed."""
        with Counting() as self._counting:
            yield
        self._counting = None

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self._close()
        self._open.append(name)
        try:
            yield
        finally:
            self._close()
            self._open.pop()

    def wrap(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, as a stage."""

        def wrapped(*arguments: Any, **named: Any) -> Any:
            with self.stage(name):
                return work(*arguments, **named)

        return wrapped

    def _close(self) -> None:
        """What has passed since the last mark belongs to the innermost stage."""
        name, (wall, cpu) = self._open[-1], self._now()
        self.wall[name] += wall - self._mark[0]
        self.cpu[name] += cpu - self._mark[1]
        if self._counting is not None:
            flops, copied = self._counting.take()
            self.flops[name] += flops
            self.copied[name] += copied
        self._mark = (wall, cpu)

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.process_time()


class Counting:
    """Floating-point operations of products, convolutions and attention, and bytes copied between host and device."""

    def __init__(self) -> None:
        self._flops, self._copies = FlopCounterMode(display=False), Copies()
        self._before = 0

    def __enter__(self) -> "Counting":
        self._flops.__enter__()
        self._copies.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._copies.__exit__(*error)
        self._flops.__exit__(*error)

    def take(self) -> tuple[int, int]:
        """Those since the last time."""
        before, self._before = self._before, self._flops.get_total_flops()
        copied, self._copies.size = self._copies.size, 0
        return self._before - before, copied


class Copies(TorchDispatchMode):
    """Bytes that go from host to device or back."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func._schema.name in ("aten::_to_copy", "aten::copy_"):
            tensors = [one for one in (*tree_leaves(args), made) if isinstance(one, torch.Tensor)]
            if len({one.device.type for one in tensors}) > 1:
                self.size += made.nbytes
        return made


@contextmanager
def patched(places: list[tuple[Any, str, Callable[..., Any]]]) -> Iterator[None]:
    """Attributes of modules and objects with other functions in their place, and then as they were."""
    before = [(owner, name, vars(owner).get(name)) for owner, name, _ in places]
    for owner, name, work in places:
        setattr(owner, name, work)
    try:
        yield
    finally:
        for owner, name, old in reversed(before):
            if old is None:
                delattr(owner, name)
            else:
                setattr(owner, name, old)
