"""Servers for tests of judges: one whose every answer, pause and refusal is prescribed, and a real one."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

READY_S = 120


@dataclass
class Answer:
    """What a server does with one request: waits, then sends a status and a body, or hangs up without a word."""

    body: Any
    status: int = 200
    wait_s: float = 0.0
    hang_up: bool = False


def saying(text: str, **fields: Any) -> Answer:
    """A chat completion with this text."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return Answer({"object": "chat.completion", "model": "scripted", "choices": [choice]}, **fields)


@dataclass
class Script:
    """How a server answers the n-th request, given its body; and what it was asked, with the most at one time."""

    answer: Callable[[int, dict[str, Any]], Answer]
    models: Any = field(default_factory=lambda: {"data": [{"id": "scripted"}]})
    models_status: int = 200
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    busiest: int = 0
    busy: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextlib.contextmanager
def serve(script: Script, port: int = 0) -> Iterator[str]:
    """The address of a server on this machine that follows the script."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(script.models, script.models_status)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with script.lock:
                script.asked.append(body)
                script.headers.append(dict(self.headers))
                number = len(script.asked) - 1
                script.busy += 1
                script.busiest = max(script.busiest, script.busy)
            answer = script.answer(number, body)
            time.sleep(answer.wait_s)
            with script.lock:
                script.busy -= 1
            if answer.hang_up:
                self.close_connection = True
                self.connection.close()
                return
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who asked may have given up
                self.send(answer.body, answer.status)

        def send(self, body: Any, status: int) -> None:
            data = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            return

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serve_folder(folder: Path, home: Path) -> Iterator[str]:
    """The address of `transformers serve` with the model of a folder, from its first sign of readiness to its end.

    Args:
        home: an empty folder for its cache and its log.
    """
    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--dtype", "float32"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            _wait(process, f"http://127.0.0.1:{port}/health", home / "log")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + READY_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    raise RuntimeError(f"transformers serve did not start:\n{log.read_text(errors='replace')[-2000:]}")
