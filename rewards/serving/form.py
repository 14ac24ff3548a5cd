"""Read a multipart body as it arrives, part by part under a limit each; nothing goes to disk and nothing is unpickled.

The form of a request: one part named `request` (JSON) first, then parts named `image`, in order.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from rewards.errors import load_extra
from rewards.serving.limits import Limits, Refusal

REQUEST, IMAGE = "request", "image"
DISCARD_S = 5
_HEADERS = 8
_HEADER_BYTES = 1024


@dataclass
class Form:
    """The JSON part and the image parts, as bytes."""

    request: bytearray | None = None
    images: list[bytearray] = field(default_factory=list)


class Body:
    """The body of a request as it comes off the line.

    Args:
        receive: gives the next message of the connection (ASGI).
        length: what Content-Length says, None for a body in chunks.
    """

    def __init__(self, receive: Callable[[], Awaitable[Any]], length: int | None) -> None:
        self.receive, self.length = receive, length
        self.ended = False

    async def chunks(self, most: int, seconds: float) -> AsyncIterator[bytes]:
        """The body in pieces.

        Raises:
            Refusal: 413 more than `most` bytes, 408 not there within so many seconds, 499 the client has gone.
        """
        if self.length is not None and self.length > most:
            raise Refusal(413, f"The body has {self.length} bytes, and at most {most} are taken.")
        end, total = asyncio.get_running_loop().time() + seconds, 0
        while not self.ended:
            try:
                async with asyncio.timeout_at(end):
                    chunk = await self._next()
            except TimeoutError:
                raise Refusal(408, f"The body did not arrive within {seconds:g} s.") from None
            total += len(chunk)
            if total > most:
                raise Refusal(413, f"The body has more than the {most} bytes that are taken.")
            yield chunk

    async def discard(self, most: int) -> None:
        """Take the rest off the line, within bounds, so that a client that is refused gets to read why."""
        try:
            async for _ in self.chunks(most, DISCARD_S):
                pass
        except Refusal:
            return

    async def _next(self) -> bytes:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            self.ended = True
            raise Refusal(499, "The client has gone before its request was complete.")
        self.ended = not message.get("more_body", False)
        return message.get("body", b"")


async def read_form(content_type: str, body: Body, limits: Limits, hold: Callable[[int], None]) -> Form:
    """The parts of a body; `content_type` is the header, whose boundary tells them apart.

    `hold` is told of every byte that has come; what is announced costs nothing.

    Raises:
        Refusal: 400 not the form described above, 408 too slow, 413 too large, 415 no multipart at all, 429 (`hold`).
    """
    reader = FormReader(_boundary(content_type), limits)
    try:
        async for chunk in body.chunks(limits.request_bytes, limits.request_seconds):
            hold(len(chunk))
            reader.feed(chunk)
        return reader.finish()
    finally:
        reader.forget()


class FormReader:
    """Collects parts from chunks of a body, and refuses a part as soon as it grows too large."""

    def __init__(self, boundary: bytes, limits: Limits) -> None:
        self._multipart = load_extra("python_multipart.multipart", "serve")
        self.limits, self.form = limits, Form()
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = bytearray(), bytearray()
        self._part = bytearray()
        self._limit = 0
        self._ended = False
        callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._open_part,
            "on_part_data": self._add_data,
            "on_end": self._end,
        }
        try:
            self._parser = self._multipart.MultipartParser(
                boundary, callbacks, max_header_count=_HEADERS, max_header_size=_HEADER_BYTES
            )
        except self._multipart.FormParserError as error:
            raise Refusal(400, f"The boundary of the body cannot be used: {error}.") from None

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except self._multipart.FormParserError as error:
            raise Refusal(400, f"The body is not multipart as its header says: {error}.") from None

    def finish(self) -> Form:
        if not self._ended:
            raise Refusal(400, "The body ends before its last boundary.")
        if self.form.request is None:
            raise Refusal(400, 'The body has no part "request" with the prompts as JSON.')
        return self.form

    def forget(self) -> None:
        """Let go of what has come. The parser refers back to this object, which so lives until garbage is collected."""
        self.form, self._part = Form(), bytearray()

    def _begin(self) -> None:
        self._headers = {}

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _open_part(self) -> None:
        options = self._multipart.parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        name = options.get(b"name", b"").decode("latin-1")
        self._part = bytearray()
        if name == REQUEST and self.form.request is None and not self.form.images:
            self.form.request, self._limit = self._part, self.limits.json_bytes
        elif name == IMAGE and self.form.request is not None:
            if len(self.form.images) >= self.limits.images:
                raise Refusal(413, f"More than {self.limits.images} images in one request; send fewer at once.")
            self.form.images.append(self._part)
            self._limit = self.limits.image_bytes
        else:
            raise Refusal(400, 'A body is one part "request" (JSON), then parts "image", and nothing else.')

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if len(self._part) + end - start > self._limit:
            what = f"Image {len(self.form.images) - 1}" if self.form.images else 'The part "request"'
            raise Refusal(413, f"{what} has more than {self._limit} bytes.")
        self._part += data[start:end]

    def _end(self) -> None:
        self._ended = True


def _boundary(content_type: str) -> bytes:
    multipart = load_extra("python_multipart.multipart", "serve")
    kind, options = multipart.parse_options_header(content_type.encode("latin-1", "replace"))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Refusal(415, f'Send multipart/form-data with a boundary, and not "{content_type[:100]}".')
    return options[b"boundary"]
