"""Bodies cut into chunks anywhere, and bodies that are not what they should be."""

import asyncio
import gc
import tracemalloc
from collections.abc import Sequence

import pytest

from benchmarks.machines.attacks import BOUNDARY, form
from rewards.serving.form import Body, read_form
from rewards.serving.limits import Limits, Refusal

KIND = f"multipart/form-data; boundary={BOUNDARY}"
PICTURE = b"\x89PNG\r\n--" + BOUNDARY[:-1].encode() + b"\r\n\r\n\0"
GOOD = form([("request", b"{}"), ("image", PICTURE), ("image", b"")])
DEFAULT = Limits()


def read(chunks: Sequence[bytes], limits=DEFAULT, kind=KIND, length=None, pause=0.0, gone=False):
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.disconnect"} if gone else {"type": "http.request", "body": b"", "more_body": False})

    async def receive():
        await asyncio.sleep(pause)
        return messages.pop(0)

    return asyncio.run(read_form(kind, Body(receive, length), limits, lambda size: None))


def refuse(*arguments, **rest):
    with pytest.raises(Refusal) as refusal:
        read(*arguments, **rest)
    return refusal.value.status, refusal.value.sentence


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_the_parts_do_not_depend_on_how_the_body_arrives(size):
    read_back = read([GOOD[start : start + size] for start in range(0, len(GOOD), size)])
    assert read_back.request == b"{}"
    assert read_back.images == [PICTURE, b""]


def test_a_part_is_refused_where_it_grows_too_large():
    assert refuse([GOOD], Limits(image_bytes=len(PICTURE) - 1)) == (
        413,
        f"Image 0 has more than {len(PICTURE) - 1} bytes.",
    )
    assert refuse([GOOD], Limits(json_bytes=1)) == (413, 'The part "request" has more than 1 bytes.')
    assert read([GOOD], Limits(image_bytes=len(PICTURE), json_bytes=2)).images[0] == PICTURE


def test_one_image_too_many_is_refused():
    assert refuse([GOOD], Limits(images=1))[0] == 413
    assert len(read([GOOD], Limits(images=2)).images) == 2


def test_a_body_without_length_is_counted_while_it_arrives():
    assert refuse([GOOD], Limits(request_bytes=len(GOOD) - 1))[0] == 413
    assert read([GOOD], Limits(request_bytes=len(GOOD))).request == b"{}"


def test_a_body_that_says_that_it_is_too_long_is_not_read():
    assert refuse([], Limits(request_bytes=5), length=6)[0] == 413


def test_a_slow_body_is_given_up():
    status, sentence = refuse([GOOD[: GOOD.index(b"{}")], *[b" "] * 100], Limits(request_seconds=0.1), pause=0.02)
    assert (status, sentence) == (408, "The body did not arrive within 0.1 s.")


def test_a_client_that_leaves_is_noticed():
    assert refuse([GOOD[:50]], gone=True)[0] == 499


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("", 415),
        ("application/json", 415),
        ("multipart/form-data", 415),
        (f"multipart/form-data; boundary={'x' * 999}", 400),
    ],
)
def test_other_kinds_are_refused(kind, status):
    assert refuse([GOOD], kind=kind)[0] == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        GOOD[:-4],
        GOOD.replace(BOUNDARY.encode(), b"another"),
        form([("image", PICTURE), ("request", b"{}")]),
        form([("request", b"{}"), ("request", b"{}")]),
        form([("request", b"{}"), ("other", b"")]),
        form([]),
        b"--" + BOUNDARY.encode() + b"\r\n" + b"X: y\r\n" * 50,
        b"--" + BOUNDARY.encode() + b"\r\nX: " + b"y" * 9000,
    ],
)
def test_a_body_of_another_form_is_refused(body):
    assert refuse([body])[0] == 400


def test_what_a_refused_body_has_sent_is_let_go_of_at_once():
    """Not when garbage is collected, which may be hundreds of megabytes later."""
    start, piece = form([("request", b"{}"), ("image", PICTURE)]).partition(PICTURE)[0], bytes(2**20)
    gc.disable()
    tracemalloc.start()
    try:
        status, _ = refuse([start, *[piece] * 8], gone=True)
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert status == 499
    assert peak > 8 * 2**20
    assert left < 2**20
