"""A model hub on this machine: answers like the real one where `dgpo rewards fetch` asks, and fails when told to."""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """One request, as the server saw it."""

    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def start(self) -> int | None:
        """First byte of a request for a part of the file."""
        value = self.headers.get("range")
        return int(value.removeprefix("bytes=").rstrip("-")) if value else None


@dataclass
class Served:
    """One file: its content, what is said about it, and how its transfer goes wrong."""

    content: bytes
    etag: str
    size: int | None = None
    status: int = 200
    error_code: str = ""
    error_message: str = ""
    cut_after: list[int] = field(default_factory=list)
    down_after_cut: int | None = None
    stall_after: int | None = None
    ranges: bool = True
    moved_to: str = ""


class Hub:
    """Serves files under /REPO/resolve/REVISION/NAME, and others under any path, as an ordinary web server does.

    `cut_after` of a file: each request for its content is cut off after so many bytes, one number a request, until the
    numbers are used up; `down_after_cut` is what everything is answered from then on. A transfer that stalls goes on
    when `go_on` is set. `down` makes every request fail with that status. A file that has `moved_to` another server is
    described here and got there, as large ones are from the real hub.
    """

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.asked: list[Asked] = []
        self.down: int | None = None
        self.stalled, self.go_on = threading.Event(), threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def add(self, repo: str, revision: str, name: str, content: bytes, **facts: Any) -> Served:
        """A large file, as the hub keeps them: its ETag is its SHA-256."""
        facts.setdefault("etag", hashlib.sha256(content).hexdigest())
        self.files[f"/{repo}/resolve/{revision}/{name}"] = served = Served(content, **facts)
        return served

    def add_small(self, repo: str, revision: str, name: str, content: bytes, **facts: Any) -> Served:
        """A small file, as git keeps it: its ETag is git's SHA-1."""
        sha1 = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        return self.add(repo, revision, name, content, etag=sha1, **facts)

    def gets(self) -> list[Asked]:
        """Requests for contents; what the hub's library asks about itself is left out."""
        return [one for one in self.asked if one.method == "GET" and not one.path.startswith("/api/")]

    def close(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_GET(self) -> None:
            self._answer(with_content=True)

        def log_message(self, format: str, *args: Any) -> None:
            """Kept in hub.asked instead."""

        def _answer(self, with_content: bool) -> None:
            hub.asked.append(
                Asked(self.command, self.path, {key.lower(): value for key, value in self.headers.items()})
            )
            served = hub.files.get(self.path)
            if hub.down is not None or served is None or served.status != 200:
                self._refuse(hub.down or (404 if served is None else served.status), served)
                return
            if served.moved_to:
                self._redirect(served)
                return
            start = hub.asked[-1].start if served.ranges else None
            content = served.content[start or 0 :]
            self.send_response(200 if start is None else 206)
            self._describe(served, len(content), start)
            if with_content:
                self._send(served, content)

        def _describe(self, served: Served, length: int, start: int | None) -> None:
            if "/resolve/" in self.path:
                self.send_header("X-Repo-Commit", self.path.split("/resolve/")[1].split("/")[0])
                self.send_header("X-Linked-Size", str(len(served.content) if served.size is None else served.size))
            self.send_header("ETag", f'"{served.etag}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(length))
            if start is not None:
                end = len(served.content)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
            self.end_headers()

        def _send(self, served: Served, content: bytes) -> None:
            if served.stall_after is not None:
                self.wfile.write(content[: served.stall_after])
                served.stall_after = None
                hub.stalled.set()
                hub.go_on.wait()
                self.close_connection = True
            elif served.cut_after:
                self.wfile.write(content[: served.cut_after.pop(0)])
                self.close_connection = True
                hub.down = served.down_after_cut
            else:
                self.wfile.write(content)

        def _redirect(self, served: Served) -> None:
            self.send_response(302)
            self.send_header("Location", served.moved_to)
            self.send_header("X-Repo-Commit", self.path.split("/resolve/")[1].split("/")[0])
            self.send_header("X-Linked-Size", str(len(served.content)))
            self.send_header("X-Linked-Etag", f'"{served.etag}"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _refuse(self, status: int, served: Served | None) -> None:
            code = served.error_code if served is not None else "EntryNotFound"
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            if served is not None and served.error_message:
                self.send_header("X-Error-Message", served.error_message)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler
