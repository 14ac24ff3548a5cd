"""A vision-language model behind an OpenAI-compatible server (vLLM, SGLang, transformers serve), asked about images.

Requests run side by side, a bounded number at a time. What never reached the server, or was turned away for the moment
(408, 409, 429, 5xx), is tried again with growing pauses until a deadline; what was answered is never asked again, and
the same 5xx twice means that the request is at fault. A failure is an error, never a reply.
"""

import asyncio
import base64
import io
import random
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from rewards.errors import ScoringError, SetupError, UsageError, load_extra
from rewards.escape import escape_controls
from rewards.images import rgb
from rewards.remote import replies
from rewards.remote.address import names_server
from rewards.secrets import read_secret, without_secrets
from rewards.vlm.questions import IMAGE_LINE, SYSTEM
from rewards.vlm.reply import Reply

if TYPE_CHECKING:
    import httpx
    from PIL.Image import Image

KEY = "DGPO_JUDGE_KEY"
REQUEST_S = 120.0
PATIENCE_S = 10.0  # for a first sign of life
LONGEST_PAUSE_S = 10.0
_BUSY = (408, 409, 429)
_SHOWN = 300
_T = TypeVar("_T")
START = (
    "Start one, for instance:\n"
    "  vllm serve CodeGoat24/UnifiedReward-2.0-qwen-7b --port 8000\n"
    "  python -m sglang.launch_server --model-path CodeGoat24/UnifiedReward-7b-v1.5 --chat-template chatml-llava "
    "--port 8000\n"
    "  transformers serve FOLDER --host 127.0.0.1 --port 8000"
)


class Judge:
    """One server and model; `ask` may be called again and again, from any thread.

    Args:
        url: up to and including /v1.
        model: the server's name for it; "auto" is the only one that the server lists, or else its own choice.
        concurrency: requests at a time.
        deadline_s: how long a request, or a server that has fallen silent, is tried again.
        request_s: how long one try may take.
        pause_s: before the second try; it doubles from there on.
        image_in_text: also write <image> before the question, as the released client of UnifiedReward does.

    Raises:
        UsageError: no usable URL.
        SetupError: httpx is not installed.
    """

    def __init__(
        self,
        url: str,
        model: str = "auto",
        *,
        concurrency: int = 16,
        max_new_tokens: int = 512,
        deadline_s: float = 120.0,
        request_s: float = REQUEST_S,
        pause_s: float = 1.0,
        image_in_text: bool = False,
    ) -> None:
        self.url = check_url(url)
        self.model = None if model == "auto" else model
        self.concurrency, self.max_new_tokens = concurrency, max_new_tokens
        self.deadline_s, self.request_s, self.pause_s = deadline_s, request_s, pause_s
        self.image_in_text = image_in_text
        self.answered_by = model  # until the server says more
        self._penalty = True  # whether the server takes the field repetition_penalty
        self._httpx: Any = load_extra("httpx", "remote")
        self._failures = (self._httpx.TransportError, replies.Unbounded)

    def greet(self, patience_s: float = PATIENCE_S) -> None:
        """See that somebody is there, and which model it is.

        Raises:
            SetupError: nothing answers at the URL, or it wants another key.
        """
        _run(self._greet(patience_s))

    def ask(self, images: "Sequence[Image]", questions: Sequence[str]) -> list[Reply | ScoringError]:
        """One reply per image, in order; an error instead where there is none."""
        return _run(self._ask(images, questions))

    async def _greet(self, patience_s: float) -> None:
        async with self._open(min(self.request_s, patience_s)) as client:
            attempt, start = _Attempt(self.pause_s), time.monotonic()
            while True:
                try:
                    answer = await self._read_all(client, "GET", "models", patience_s)
                    break
                except self._failures as error:
                    pause = attempt.pause()
                    if time.monotonic() - start + pause > patience_s:
                        raise SetupError(
                            f"No judge answers at {self.url} ({_describe(error)}). {START}\n"
                            "and give its address: judge=http://HOST:PORT/v1"
                        ) from error
                    await asyncio.sleep(pause)
        if answer.status_code in (401, 403):
            raise SetupError(
                f"The judge at {self.url} refuses the key (HTTP {answer.status_code}); put the right one into the "
                f"environment: export {KEY}=..."
            )
        listed = _list_models(answer)
        if self.model is None and len(listed) == 1:
            self.model = self.answered_by = listed[0]

    async def _ask(self, images: "Sequence[Image]", questions: Sequence[str]) -> list[Reply | ScoringError]:
        line = _Line(self.deadline_s)
        turns = asyncio.Semaphore(self.concurrency)
        async with self._open(self.request_s) as client:

            async def ask_one(image: "Image", question: str) -> Reply | ScoringError:
                async with turns:
                    try:
                        return await self._insist(client, line, image, question)
                    except ScoringError as error:
                        return error

            return await asyncio.gather(*map(ask_one, images, questions))

    async def _insist(self, client: "httpx.AsyncClient", line: "_Line", image: "Image", question: str) -> Reply:
        """One request until it is answered, refused or out of time."""
        if 0 in image.size:
            raise ScoringError(f"the image is empty ({image.width} x {image.height} pixels)")
        picture = await asyncio.to_thread(encode, image)
        attempt = _Attempt(self.pause_s)
        while True:
            try:
                penalty = self._penalty
                answer = await self._read_all(
                    client, "POST", "chat/completions", self.request_s, json=self._request(picture, question, penalty)
                )
            except self._failures as error:
                words = _describe(error)
                hopeless = False
            else:
                if answer.status_code == 200:
                    line.alive()
                    return self._read(answer)
                if penalty and answer.status_code in (400, 422) and "repetition_penalty" in answer.text:
                    self._penalty = False
                    continue
                words = f"HTTP {answer.status_code}: {_excerpt(answer.text)}"
                hopeless = attempt.is_hopeless(answer.status_code, answer.text)
            pause = attempt.pause()
            if hopeless or not line.has_time(attempt, pause):
                tries = f" after {attempt.number} tries" if attempt.number > 1 else ""
                raise ScoringError(f"the judge at {self.url} gave no reply{tries} ({words})")
            await asyncio.sleep(pause)

    def _request(self, picture: str, question: str, penalty: bool) -> dict[str, Any]:
        """Greedy, and without the repetition penalty that these models' own settings bring along.

        vLLM and SGLang take repetition_penalty; transformers serve refuses unknown fields and reads frequency_penalty
        as repetition_penalty - 1. Where the first is refused, the second does it.
        """
        text = (IMAGE_LINE if self.image_in_text else "") + question
        content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": text}]
        return {
            **({"model": self.model} if self.model else {}),
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}],
            "temperature": 0.0,
            "max_tokens": self.max_new_tokens,
            "frequency_penalty": 0.0,
            **({"repetition_penalty": 1.0} if penalty else {}),
        }

    async def _read_all(
        self, client: "httpx.AsyncClient", method: str, path: str, seconds: float, **rest: Any
    ) -> replies.Reply:
        """The whole answer, within bounds."""
        bounds = replies.Bounds(seconds)
        try:
            async with asyncio.timeout(seconds), client.stream(method, path, **rest) as answer:
                async for piece in answer.aiter_bytes():
                    bounds.add(piece)
        except TimeoutError:
            raise bounds.too_slow() from None
        return replies.Reply(answer.status_code, answer.headers, bytes(bounds.pieces))

    def _read(self, answer: replies.Reply) -> Reply:
        try:
            body = answer.json()
            choice = body["choices"][0]
            text = choice["message"]["content"] or ""
            if not isinstance(text, str):
                raise TypeError(f"content is {type(text).__name__}")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ScoringError(
                f"the judge at {self.url} answered with something that is no chat completion: {_excerpt(answer.text)}"
            ) from error
        self.answered_by = str(body.get("model") or self.answered_by)
        return Reply(text, cut=choice.get("finish_reason") == "length")

    def _open(self, timeout_s: float) -> "httpx.AsyncClient":
        key = read_secret(KEY)
        return self._httpx.AsyncClient(
            base_url=self.url,
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=timeout_s,
            limits=self._httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency),
        )


@dataclass
class _Line:
    """Whether it is worth trying again: the server may have been silent for too long, whoever asked."""

    deadline_s: float
    heard: float = field(default_factory=time.monotonic)

    def alive(self) -> None:
        self.heard = time.monotonic()

    def has_time(self, attempt: "_Attempt", pause: float) -> bool:
        return time.monotonic() + pause - min(attempt.start, self.heard) < self.deadline_s


@dataclass
class _Attempt:
    """The tries of one request so far."""

    first_pause_s: float
    number: int = 0
    start: float = field(default_factory=time.monotonic)
    last: tuple[int, str] | None = None

    def pause(self) -> float:
        """Seconds before the next one: 1, 2, 4, 8, then 10, each with a bit of chance."""
        self.number += 1
        return min(self.first_pause_s * (2.0 ** (self.number - 1) + random.random()), LONGEST_PAUSE_S)

    def is_hopeless(self, status: int, body: str) -> bool:
        """Whether asking again would bring the same: refused, or the same fault of the server twice."""
        repeated = status >= 500 and self.last == (status, body)
        self.last = (status, body)
        return repeated or not (status in _BUSY or status >= 500)


def check_url(url: str) -> str:
    """The address without a slash at its end; /v1 is added where there is no path.

    >>> check_url("http://127.0.0.1:8000")
    'http://127.0.0.1:8000/v1'

    Raises:
        UsageError: it is none, or holds a password, which would stand in every table.
    """
    parts = urlsplit(url) if names_server(url) else None
    if parts is None or parts.query or parts.fragment:
        raise UsageError(
            f'judge="{without_secrets(url)}" is not the address of a judge; write http://HOST:PORT/v1. '
            f"A key goes into {KEY}."
        )
    if parts.username or parts.password:
        raise UsageError(f"An address with a password in it would be recorded; put the key into {KEY} instead.")
    return url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")


def encode(image: "Image") -> str:
    """An image as a data URL: RGB, PNG, so that the judge sees every pixel as it is."""
    buffer = io.BytesIO()
    rgb(image).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _list_models(answer: replies.Reply) -> list[str]:
    """The names that a server lists; none where it does not list any, which not all do."""
    try:
        return [str(model["id"]) for model in answer.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return []


def _describe(error: Exception) -> str:
    return escape_controls(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def _excerpt(text: str) -> str:
    return text.strip()[:_SHOWN] or "no text"


def _run(task: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end, in a thread of its own where this one already runs a loop (a notebook, a server)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(task)
    with ThreadPoolExecutor(1, thread_name_prefix="judge") as thread:
        return thread.submit(asyncio.run, task).result()
