"""What rewards of a process share: networks and engines, made once for equal arguments, listed, and let go.

Each lives for as long as some reward has it; besides, all that was made stays at hand for the next reward that asks,
until `let_go`.
"""

import gc
import sys
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar
from weakref import WeakValueDictionary

P = ParamSpec("P")
T = TypeVar("T")


class Held(NamedTuple):
    """Something large in this process; weights that stay mapped on disk until their first use count as on the CPU."""

    what: str
    device: str
    size: int
    """Bytes."""


Measure = Callable[[Any, set[int]], tuple[str, int]]
"""Device and bytes of an object; it gets the ids of the tensors that others have been measured with."""

_made: list[tuple[WeakValueDictionary[Any, Any], Measure]] = []
_at_hand: list[object] = []


def shared(make: Callable[P, T], *, measure: Measure | None = None) -> Callable[P, T]:
    """Decorates a function that loads something large: equal arguments give the same object.

    Args:
        measure: of something that has its bytes elsewhere than in torch's modules.
    """
    known: WeakValueDictionary[Any, Any] = WeakValueDictionary()
    _made.append((known, measure or _measure_networks))

    @wraps(make)
    def get(*args: P.args, **kwargs: P.kwargs) -> T:
        key = (args, tuple(sorted(kwargs.items())))
        found = known.get(key)
        if found is None:
            found = known[key] = make(*args, **kwargs)
            _at_hand.append(found)
        return found

    return get


def sharing(measure: Measure) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """`shared` for what is measured in another way."""
    return partial(shared, measure=measure)


def let_go() -> None:
    """Keep nothing at hand, and give the memory back; what a reward still has stays with it."""
    _at_hand.clear()
    gc.collect()  # networks and what computes with them refer to each other
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def held() -> list[Held]:
    """What is in this process now, the largest first."""
    seen: set[int] = set()
    found = [Held(type(one).__name__, *measure(one, seen)) for known, measure in _made for one in list(known.values())]
    return sorted((one for one in found if one.size), key=lambda one: one.size, reverse=True)


def _measure_networks(one: object, seen: set[int]) -> tuple[str, int]:
    tensors = {id(tensor): tensor for module in _modules(one) for tensor in [*module.parameters(), *module.buffers()]}
    new = [tensor for key, tensor in tensors.items() if key not in seen and not tensor.is_meta]
    seen.update(tensors)
    return ", ".join(sorted({str(tensor.device) for tensor in new})), sum(tensor.nbytes for tensor in new)


def _modules(one: object) -> Iterator[Any]:
    """The networks of an object of ours, its own and those of its parts."""
    if isinstance(one, sys.modules["torch"].nn.Module):
        yield one
    elif type(one).__module__.startswith("rewards."):
        for part in vars(one).values():
            yield from _modules(part)
