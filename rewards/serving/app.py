"""The HTTP face of a reward server: paths, statuses, request ids, one log line per request."""

import asyncio
import json
import logging
import re
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rewards.errors import DgpoError, load_extra
from rewards.remote.wire import mark_of, write_score
from rewards.serving.asked import match_images, read_asked
from rewards.serving.auth import check_token
from rewards.serving.batching import Batcher, Job
from rewards.serving.engine import Engine
from rewards.serving.form import Body, read_form
from rewards.serving.limits import Held, Limits, Refusal
from rewards.serving.metrics import Metrics
from rewards.serving.pictures import count_bytes, decode_pictures, open_pictures, restrain_pillow

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger(__name__)

SCORE, CHECK, REWARDS, HEALTH, METRICS = "/v1/score", "/v1/check", "/v1/rewards", "/health", "/metrics"
PATHS = f"POST {SCORE}, POST {CHECK}, GET {REWARDS}, GET {HEALTH}, GET {METRICS}"
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class Exchange:
    """One request on its way through the server, and what the log says of it in the end."""

    request: "Request"
    id: str
    body: Body
    begun: float = field(default_factory=time.monotonic)
    notes: dict[str, Any] = field(default_factory=dict)


class Service:
    """Answers requests with the rewards of an engine.

    Args:
        token: what clients have to show; None on a machine that lets no other one in.
        batch, wait_s: how large a batch may grow, and how long (seconds) the first request of one waits for others.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        version: str,
        limits: Limits | None = None,
        token: str | None = None,
        batch: int = 32,
        wait_s: float = 0.005,
    ) -> None:
        self.engine, self.version, self.token = engine, version, token
        self.limits = limits or Limits()
        self.held = Held(self.limits.held_bytes)
        # Each reward has its own queue and lanes, and of several none fills the memory: a slow one holds up no other.
        most = self.limits.held_bytes // min(len(engine.rewards), 2)
        self.pictures = {key: Held(most) for key in engine.rewards}
        self.batchers = {
            key: Batcher(
                engine.submit,
                batch=batch,
                wait_s=wait_s,
                capacity=self.limits.queue_images,
                lanes=engine.lanes,
                on_batch=lambda key, size: self.metrics.count_batch(key, size),
            )
            for key in engine.rewards
        }
        self.metrics = Metrics(
            lambda: sum(batcher.waiting for batcher in self.batchers.values()), lambda: self.held.bytes
        )
        self.ready = self.stopping = False
        self.broken: DgpoError | None = None
        self.on_broken: Callable[[], None] = lambda: None
        self._decoders = ThreadPoolExecutor(4, thread_name_prefix="decoding")

    @asynccontextmanager
    async def live(self, _app: object) -> AsyncIterator[None]:
        """From the start of the server to its end; ready once every reward has scored a first picture.

        One that breaks over it is told of in `broken`, and `on_broken` is called: there is nothing to serve.
        """
        restrain_pillow()
        with ExitStack() as opened:
            opened.enter_context(self.engine)
            opened.callback(self._decoders.shutdown)
            for batcher in self.batchers.values():
                opened.enter_context(batcher)
            threading.Thread(target=self._warm_up, name="warming up", daemon=True).start()
            yield
            self.engine.drop()  # whoever waited has an answer by now, or has been sent away

    def stop(self) -> None:
        """Take no new work; what is queued is still answered."""
        self.stopping = True

    async def score(self, exchange: Exchange) -> "Response":
        """POST /v1/score: images in, scores out."""
        self._refuse_early()
        request = exchange.request
        with ExitStack() as held:
            with self.held.share() as hold:
                form = await read_form(request.headers.get("content-type", ""), exchange.body, self.limits, hold)
                wanted, prompts = read_asked(form.request or b"", self.limits)
                match_images(prompts, form.images)
                key = self.engine.find(wanted)
                exchange.notes |= {"reward": key, "images": len(prompts)}
                pictures = await self._aside(open_pictures, form.images, self.limits)
                for shared in (self.pictures[key], self.held):
                    held.enter_context(shared.share())(count_bytes(pictures))
                _refuse_prompts(await self._aside(self.engine.check, key, prompts))
                pictures = await self._aside(decode_pictures, pictures)
                marks = [mark_of(part) for part in form.images]
                form.images.clear()
            answer = await self._await_scores(request, Job(key, pictures, prompts))
        failed = sum(not score.ok for score in answer.scores)
        self.metrics.count_images(key, len(prompts) - failed, failed)
        exchange.notes |= {"failed": failed, "batch": answer.batch, "waited": f"{answer.waited:.3f}"}
        scores = [write_score(*one) for one in zip(answer.scores, prompts, marks, strict=True)]
        seconds = round(time.monotonic() - exchange.begun, 6)
        return self._reply(exchange, 200, {**self._name(key), "scores": scores, "seconds": seconds})

    async def check(self, exchange: Exchange) -> "Response":
        """POST /v1/check: prompts in; for each one why no image of it can be judged, or null."""
        self._refuse_early()
        text = bytearray()
        with self.held.share() as hold:
            async for chunk in exchange.body.chunks(self.limits.json_bytes, self.limits.request_seconds):
                hold(len(chunk))
                text += chunk
            wanted, prompts = read_asked(text, self.limits)
            key = self.engine.find(wanted)
            problems = await self._aside(self.engine.check, key, prompts)
        return self._reply(exchange, 200, {**self._name(key), "problems": problems})

    async def rewards(self, exchange: Exchange) -> "Response":
        """GET /v1/rewards: what is served, under which limits."""
        rewards = list(self.engine.descriptions.values())
        document = {"server_version": self.version, "limits": self.limits.to_json(), "rewards": rewards}
        return self._reply(exchange, 200, document)

    async def health(self, exchange: Exchange) -> "Response":
        """GET /health: 200 when requests are taken; open to everybody."""
        state = "stopping" if self.stopping else "ready" if self.ready else "loading"
        return self._reply(exchange, 200 if state == "ready" else 503, {"status": state})

    async def show_metrics(self, exchange: Exchange) -> "Response":
        from starlette.responses import Response

        return Response(self.metrics.render(), media_type=self.metrics.content_type)

    async def lost(self, exchange: Exchange) -> "Response":
        request = exchange.request
        raise Refusal(404, f"There is no {request.method} {request.url.path[:100]} here, but: {PATHS}.")

    def answer(
        self, path: str, handle: Callable[[Exchange], Awaitable["Response"]], *, door: bool = True
    ) -> Callable[["Request"], Awaitable["Response"]]:
        """A route's function: token first, refusals as JSON, an id on every answer, one line in the log."""

        async def respond(request: "Request") -> "Response":
            given = request.headers.get("x-request-id", "")
            body = Body(request.receive, _read_length(request))
            exchange = Exchange(request, given if _ID.fullmatch(given) else uuid.uuid4().hex[:16], body)
            status = 500
            try:
                if door:
                    check_token(request.headers.get("authorization"), self.token)
                response = await handle(exchange)
                status = response.status_code
            except (Refusal, DgpoError) as error:  # the latter of a reward that is broken
                refusal = error if isinstance(error, Refusal) else Refusal(500, str(error).partition("\n")[0])
                error.__traceback__ = error.__context__ = None  # they hold what the request has sent
                if refusal.status not in (408, 499):
                    await body.discard(self.limits.request_bytes)
                exchange.notes["refused"] = refusal.sentence
                status = refusal.status
                response = self._reply(exchange, status, {"error": refusal.sentence}, refusal.retry_after)
            finally:
                seconds = time.monotonic() - exchange.begun
                self.metrics.count_request(path, status, seconds)
                log.info(_line(exchange, status, seconds))
            response.headers["X-Request-ID"] = exchange.id
            return response

        return respond

    def _refuse_early(self) -> None:
        if self.stopping:
            raise Refusal(503, "This server is stopping; ask another one, or this one when it is back.", 5.0)
        if not self.ready:
            raise Refusal(503, "This server is still loading its rewards.", 2.0)

    async def _aside(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Run work that takes a processor for a while, beside the loop that answers."""
        return await asyncio.get_running_loop().run_in_executor(self._decoders, work, *arguments)

    async def _await_scores(self, request: "Request", job: Job) -> Any:
        """The batcher's answer; a job whose client has gone leaves the queue."""
        self.batchers[job.key].put(job)
        answer = asyncio.wrap_future(job.future)
        gone = asyncio.ensure_future(_wait_until_gone(request))
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise Refusal(499, "The client has gone before its scores were made.")
            return answer.result()
        finally:
            gone.cancel()
            answer.cancel()

    def _name(self, key: str) -> dict[str, Any]:
        description = self.engine.descriptions[key]
        return {name: description[name] for name in ("key", "identity", "provenance", "server_version")}

    def _reply(
        self, exchange: Exchange, status: int, document: Mapping[str, Any], retry_after: float | None = None
    ) -> "Response":
        from starlette.responses import Response

        text = json.dumps({**document, "request_id": exchange.id}, allow_nan=False)
        headers = {} if retry_after is None else {"Retry-After": f"{retry_after:.0f}"}
        return Response(text, status, headers, "application/json")

    def _warm_up(self) -> None:
        for key in self.engine.rewards:
            try:
                reason = self.engine.warm_up(key)
            except DgpoError as error:
                if not self.stopping:
                    self.broken = error
                    self.on_broken()
                return
            if reason:
                log.warning("%s cannot judge a plain grey picture: %s", key, reason)
        self.ready = True
        log.info("ready: %s", ", ".join(self.engine.rewards))


def build_app(service: Service) -> Any:
    """The ASGI application of a service.

    Raises:
        SetupError: FastAPI is not installed.
    """
    fastapi = load_extra("fastapi", "serve")
    load_extra("python_multipart.multipart", "serve")
    lost = service.answer("other", service.lost)

    async def find_nothing(request: "Request", _error: Exception) -> "Response":
        return await lost(request)

    app = fastapi.FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=service.live,
        exception_handlers={404: find_nothing, 405: find_nothing},
    )
    app.add_route(SCORE, service.answer(SCORE, service.score), methods=["POST"])
    app.add_route(CHECK, service.answer(CHECK, service.check), methods=["POST"])
    app.add_route(REWARDS, service.answer(REWARDS, service.rewards), methods=["GET"])
    app.add_route(HEALTH, service.answer(HEALTH, service.health, door=False), methods=["GET"])
    app.add_route(METRICS, service.answer(METRICS, service.show_metrics), methods=["GET"])
    return app


def _read_length(request: "Request") -> int | None:
    length = request.headers.get("content-length")
    return None if length is None else int(length)  # the HTTP parser has refused what is no number


def _refuse_prompts(problems: Sequence[str | None]) -> None:
    for number, problem in enumerate(problems):
        if problem is not None:
            raise Refusal(422, f"No image of prompt {number} can be judged: {problem}")


async def _wait_until_gone(request: "Request") -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _line(exchange: Exchange, status: int, seconds: float) -> str:
    request = exchange.request
    client = request.client.host if request.client is not None else "-"
    path = request.url.path[:100].encode("ascii", "backslashreplace").decode()
    quoted = {name: json.dumps(note) if name == "refused" else note for name, note in exchange.notes.items()}
    notes = "".join(f" {name}={note}" for name, note in quoted.items())
    return f"id={exchange.id} {client} {request.method} {path!r} {status} {seconds:.3f} s{notes}"
