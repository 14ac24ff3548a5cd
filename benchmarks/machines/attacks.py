"""Requests that no honest client sends, to try a reward server with: broken, huge, slow, and in disguise."""

import io
import json
import os
import pickle
import random
import socket
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from PIL import Image

BOUNDARY = "-----dgpo"
_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
_PNG = b"\x89PNG\r\n\x1a\n"

Parts: TypeAlias = Sequence[tuple[str, bytes]]


@dataclass(frozen=True)
class Attack:
    """One hostile request: what it is, and a function that sends it and returns the HTTP statuses that came back.

    A status of 0 is a closed line; `fine` are those that are right besides 4xx.
    """

    name: str
    send: Callable[[], list[int]]
    fine: tuple[int, ...] = ()


class Runaway:
    """Harmless here; a server that unpickles it ends at once."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (86,)


def list_attacks(base: str, key: str, seed: int = 0, mutations: int = 200) -> list[Attack]:
    """All attacks on the server at `base`, with requests that ask for the reward `key`; equal seeds, equal bytes."""

    def images(name: str, *parts: bytes) -> Attack:
        return Attack(name, lambda: [post(base, form([("request", ask(key, len(parts))), *_named(parts)]))])

    def text(name: str, request: bytes) -> Attack:
        return Attack(name, lambda: [post(base, form([("request", request), ("image", _good_png())]))])

    def body(name: str, make: Callable[[], bytes], kind: str = _TYPE) -> Attack:
        return Attack(name, lambda: [post(base, make(), kind)])

    large = form([("request", ask(key, 4)), *_named([b"\0" * 10_000_000] * 4)])
    prompt = '{"reward": "%s", "prompts": [{"text": %s}]}'
    return [
        images("half a PNG", _good_png()[: len(_good_png()) // 2]),
        images("half a JPEG", _good("JPEG")[: len(_good("JPEG")) // 2]),
        images("half a WebP", _good("WEBP")[: len(_good("WEBP")) // 2]),
        images("no byte at all", b""),
        images("PNG that says 50000 x 50000", _png_of(50_000, 50_000, b"")),
        images("PNG bomb, 16000 x 16000 black pixels in 250 kB", _bomb(16_000, 16_000)),
        images("PNG 1000000 pixels wide", _bomb(1_000_000, 1)),
        images("WebP that says 16383 x 16383", _huge_webp()),
        images("PNG with 1 GB in a zTXt chunk", _with_chunk(b"zTXt", b"bomb\0\0" + _zeros(2**30))),
        images("PNG with 400 zTXt chunks of 0.9 MB", _with_chunk(b"zTXt", b"bomb\0\0" + _zeros(900_000), 400)),
        images("PNG with 1 GB in its iCCP chunk", _with_chunk(b"iCCP", b"bomb\0\0" + _zeros(2**30))),
        images("PNG with 1 GB in an iTXt chunk", _with_chunk(b"iTXt", b"bomb\0\1\0\0\0" + _zeros(2**30))),
        images("film of 50 frames", _film()),
        images("a pickle as image", pickle.dumps(Runaway())),
        images("GIF", _good("GIF")),
        images("TIFF", _good("TIFF")),
        images("SVG", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"),
        images("65 images", *[_good_png()] * 65),
        images("one image of 20 MB", _good_png() + b"\0" * 20_000_000),
        body("5000 parts", lambda: form([("request", ask(key, 5000)), *_named([b"x"] * 5000)])),
        body("200 MB in one body", lambda: form([("request", ask(key, 1)), ("image", bytes(200_000_000))])),
        Attack("200 MB in chunks", lambda: [post_chunks(base, 200)]),
        text("prompt of 500000 characters", (prompt % (key, json.dumps("a" * 500_000))).encode()),
        text("3 MB of JSON", (prompt % (key, json.dumps("a" * 3_000_000))).encode()),
        text("JSON 100000 deep", b'{"reward": "x", "prompts": ' + b"[" * 100_000),
        text("a spec 20000 deep", (prompt[:-2] % (key, '"a", "spec": {"x": ' + "[" * 20_000)).encode()),
        text("NaN in a spec", (prompt % (key, '"a", "spec": {"x": NaN}')).encode()),
        text("1e999 in a spec", (prompt % (key, '"a", "spec": {"x": 1e999}')).encode()),
        text("half a surrogate", (prompt % (key, '"\\ud800"')).encode()),
        text("a number of 100000 digits", (prompt % (key, "9" * 100_000)).encode()),
        text("a pickle as JSON", pickle.dumps(Runaway())),
        text("two prompts, one image", ask(key, 2)),
        text("a reward that is not served", ask("nobody", 1)),
        body("JSON instead of parts", lambda: ask(key, 1), "application/json"),
        body("pickle instead of parts", lambda: pickle.dumps(Runaway()), "application/octet-stream"),
        body("parts without a boundary", lambda: form([("request", ask(key, 1))]), "multipart/form-data"),
        body("another boundary than said", lambda: form([("request", ask(key, 1))]).replace(b"dgpo", b"opgd")),
        body("no last boundary", lambda: form([("request", ask(key, 1)), ("image", _good_png())])[:-20]),
        body("parts in the wrong order", lambda: form([("image", _good_png()), ("request", ask(key, 1))])),
        body("a part header of 1 MB", lambda: b"--" + BOUNDARY.encode() + b"\r\nX: " + b"y" * 2**20),
        body("random bytes", lambda: random.Random(seed).randbytes(100_000)),
        Attack("a body that trickles, a byte in 0.1 s", lambda: [post_slowly(base)]),
        Attack("headers that trickle", lambda: [post_headers_slowly(base)], (0,)),
        Attack("client that leaves in the middle", lambda: leave(base)),
        Attack("16 bodies of 40 MB at once", lambda: post_together(base, large, 16)),
        Attack("line noise instead of HTTP", lambda: [raw(base, random.Random(seed).randbytes(5000) + b"\r\n\r\n")]),
        Attack(
            f"{mutations} images with flipped bytes",
            lambda: [post(base, form([("request", ask(key, 1)), ("image", one)])) for one in mutate(seed, mutations)],
            (200,),
        ),
    ]


def ask(key: str, prompts: int) -> bytes:
    return json.dumps({"reward": key, "prompts": [{"text": 'a sign "OK"'}] * prompts}).encode()


def form(parts: Parts) -> bytes:
    """A multipart body."""
    head = '--{}\r\nContent-Disposition: form-data; name="{}"\r\n\r\n'
    return (
        b"".join(head.format(BOUNDARY, name).encode() + data + b"\r\n" for name, data in parts)
        + f"--{BOUNDARY}--\r\n".encode()
    )


def post(base: str, body: bytes, kind: str = _TYPE) -> int:
    """Send a body whole; the status."""
    return raw(base, _head(base, kind, f"Content-Length: {len(body)}") + body)


def post_chunks(base: str, megabytes: int) -> int:
    """Send a body of unstated length, as long as the server takes it."""
    chunk = b"100000\r\n" + bytes(2**20) + b"\r\n"
    start = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="request"\r\n\r\n'.encode()
    first = _head(base, _TYPE, "Transfer-Encoding: chunked") + f"{len(start):x}\r\n".encode() + start + b"\r\n"
    return raw(base, first, *[chunk] * megabytes)


def post_slowly(base: str) -> int:
    start = form([("request", b"")]).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    return raw(base, _head(base, _TYPE, "Content-Length: 10000") + start, *[b" "] * 600, pause_s=0.1)


def post_headers_slowly(base: str) -> int:
    return raw(base, *[b"X"] * 600, pause_s=0.1)


def post_together(base: str, body: bytes, times: int) -> list[int]:
    """The same body from so many connections at once."""
    with ThreadPoolExecutor(times) as threads:
        return list(threads.map(lambda _: post(base, body), range(times)))


def leave(base: str) -> list[int]:
    """Twenty clients that send half of a request and are gone; no answer is read."""
    body = form([("request", ask("any", 1)), ("image", _good_png())])
    for _ in range(20):
        with _connect(base) as line:
            line.sendall(_head(base, _TYPE, f"Content-Length: {len(body)}") + body[: len(body) // 2])
    return []


def raw(base: str, *pieces: bytes, pause_s: float = 0.0) -> int:
    """Send bytes; the status of the answer, or 0 where the line was closed without one."""
    with _connect(base) as line:
        try:
            for piece in pieces:
                line.sendall(piece)
                if pause_s:
                    line.settimeout(pause_s)
                    try:
                        answer = line.recv(4096)
                    except TimeoutError:
                        continue
                    finally:
                        line.settimeout(60)
                    return _status(answer)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before the end; why can mostly still be read
        try:
            return _status(line.recv(4096))
        except ConnectionResetError:
            return 0


def mutate(seed: int, count: int) -> Iterator[bytes]:
    """Small pictures of the three formats with a few random bytes changed, or a piece cut out."""
    source = random.Random(seed)
    for number in range(count):
        data = bytearray(_good(("PNG", "JPEG", "WEBP")[number % 3]))
        for _ in range(source.randint(1, 8)):
            data[source.randrange(len(data))] = source.randrange(256)
        if source.random() < 0.3:
            start = source.randrange(len(data))
            del data[start : start + source.randint(1, 50)]
        yield bytes(data)


def _connect(base: str) -> socket.socket:
    place = urlsplit(base)
    return socket.create_connection((place.hostname or "", place.port or 80), timeout=60)


def _head(base: str, kind: str, length: str) -> bytes:
    token = os.environ.get("DGPO_REWARD_TOKEN")
    lines = ["POST /v1/score HTTP/1.1", f"Host: {urlsplit(base).netloc}", "Connection: close"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    return "\r\n".join([*lines, f"Content-Type: {kind}", length, "", ""]).encode()


def _status(answer: bytes) -> int:
    words = answer.split(b" ", 2)
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def _named(parts: Sequence[bytes]) -> list[tuple[str, bytes]]:
    return [("image", part) for part in parts]


def _good(kind: str) -> bytes:
    buffer = io.BytesIO()
    picture = Image.linear_gradient("L").resize((48, 32)).convert("RGB")
    picture.save(buffer, kind)
    return buffer.getvalue()


def _good_png() -> bytes:
    return _good("PNG")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_of(width: int, height: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return _PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _bomb(width: int, height: int) -> bytes:
    return _png_of(width, height, _zeros((width + 1) * height))


@cache
def _zeros(size: int) -> bytes:
    """So many zero bytes, compressed without ever being there."""
    packer = zlib.compressobj(9)
    packed = [packer.compress(bytes(min(2**20, size - start))) for start in range(0, size, 2**20)]
    return b"".join([*packed, packer.flush()])


def _with_chunk(kind: bytes, data: bytes, times: int = 1) -> bytes:
    good = _good_png()
    after_header = len(_PNG) + 25
    return good[:after_header] + _chunk(kind, data) * times + good[after_header:]


def _huge_webp() -> bytes:
    """An extended header with the largest canvas, and nothing behind it."""
    size = (16_382).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _film() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), (level, 0, 0)) for level in range(0, 250, 5)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()
