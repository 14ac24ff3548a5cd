"""A server that is away, busy, silent or wrong, on a real socket: how often it is asked, and for how long."""

import http.server
import socket
import threading
import time
from contextlib import suppress
from typing import ClassVar

import pytest

from rewards.errors import SetupError, UsageError
from rewards.remote.connection import Connection, OutOfReach, read_deadline
from rewards.remote.replies import Reply
from rewards.vlm.judge import Judge


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers with the next of `script`: a status, a status with Retry-After, `hang` or `drop`."""

    script: ClassVar[list] = []
    seen: ClassVar[list] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.seen.append((time.monotonic(), self.headers.get("Authorization")))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if answer == "hang":
            time.sleep(1.5)
        if answer in ("hang", "drop"):
            self.close_connection = True
            return
        status, wait = answer if isinstance(answer, tuple) else (answer, None)
        self.send_response(status)
        if wait is not None:
            self.send_header("Retry-After", wait)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


@pytest.fixture
def scripted():
    """A server; call it with a script and get its address and the list of what it has seen."""
    opened = []

    def start(*script, port=0):
        handler = type("Handler", (Scripted,), {"script": list(script), "seen": []})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        opened.append(server)
        return f"http://127.0.0.1:{server.server_port}", handler.seen

    yield start
    for server in opened:
        server.shutdown()
        server.server_close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("fault", [429, 502, 503, 504, "drop"])
def test_a_fault_that_passes_is_not_noticed(scripted, fault):
    base, seen = scripted(fault, fault, 200)
    assert Connection(base, 10).ask("GET", "/").status_code == 200
    assert len(seen) == 3


@pytest.mark.parametrize("status", [200, 400, 401, 404, 413, 422, 500])
def test_an_answer_is_an_answer_at_once(scripted, status):
    base, seen = scripted(status)
    assert Connection(base, 10).ask("GET", "/").status_code == status
    assert len(seen) == 1


def test_retry_after_is_heeded(scripted):
    base, seen = scripted((429, "1"), 200)
    Connection(base, 10).ask("GET", "/")
    assert 1.0 <= seen[1][0] - seen[0][0] < 3.0


def test_the_deadline_ends_it_with_the_last_reason(scripted):
    base, seen = scripted(503)
    start = time.monotonic()
    with pytest.raises(OutOfReach, match=r"HTTP 503.*tried for 0\.6 s"):
        Connection(base, 0.6).ask("GET", "/")
    assert 0.6 <= time.monotonic() - start < 2
    assert 3 <= len(seen) < 15


def test_a_dead_server_costs_the_deadline_once():
    connection = Connection(f"http://127.0.0.1:{free_port()}", 0.5)
    start = time.monotonic()
    for _ in range(10):
        with pytest.raises(OutOfReach, match="ConnectError"):
            connection.ask("GET", "/")
    assert time.monotonic() - start < 1.5


def test_a_silent_server_is_asked_again(scripted):
    base, seen = scripted("hang", 200)
    start = time.monotonic()
    assert Connection(base, 1.0).ask("GET", "/").status_code == 200
    assert time.monotonic() - start < 1.4
    assert len(seen) == 2


def test_a_server_that_starts_late_is_found(scripted):
    port = free_port()
    threading.Timer(0.5, lambda: scripted(200, port=port)).start()
    assert Connection(f"http://127.0.0.1:{port}", 10).ask("GET", "/").status_code == 200


def test_after_a_return_the_clock_starts_anew(scripted):
    base, _ = scripted(503, 503, 200, 503, 503, 200)
    connection = Connection(base, 1.0)
    for _ in range(2):
        assert connection.ask("GET", "/").status_code == 200
        time.sleep(0.7)


def test_the_token_comes_from_the_environment_and_follows_no_redirect(scripted, monkeypatch):
    monkeypatch.setenv("DGPO_REWARD_TOKEN", "0123456789abcdef")
    base, seen = scripted(302)
    assert Connection(base, 1).ask("GET", "/").status_code == 302
    assert [token for _, token in seen] == ["Bearer 0123456789abcdef"]


def test_the_deadline_is_a_number_of_seconds(monkeypatch):
    assert read_deadline() == 120
    monkeypatch.setenv("DGPO_REWARD_DEADLINE_S", "7.5")
    assert read_deadline() == 7.5
    for text in ("soon", "0", "-1", "nan", "inf"):
        monkeypatch.setenv("DGPO_REWARD_DEADLINE_S", text)
        with pytest.raises(UsageError, match="number of seconds"):
            read_deadline()


def test_waiting_is_told_when_it_begins_and_when_it_ends(scripted, caplog):
    base, _ = scripted(503, 503, 503, 200)
    with caplog.at_level("WARNING", "rewards"):
        Connection(base, 30.0).ask("GET", "/")
    first, last = (record.getMessage() for record in caplog.records)
    assert first == f"waiting for {base} (HTTP 503: {{}}), giving up after 30 s"
    assert last.startswith(f"{base} answers again, after ")


def test_an_answer_that_drips_or_never_ends_is_none():
    class Dripping(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            piece, pause = (b"x" * 2**20, 0.0) if self.path == "/long" else (b"x", 0.05)
            try:
                while True:
                    self.wfile.write(piece)
                    time.sleep(pause)
            except OSError:
                return

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dripping) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = Connection(f"http://127.0.0.1:{server.server_port}", 1.0)
        with pytest.raises(OutOfReach, match=r"not complete within 0\.5 s"):
            connection.ask("GET", "/drip", 0.5)
        with pytest.raises(OutOfReach, match=r"more than 16777216 bytes|not complete"):
            connection.ask("GET", "/long", 0.5)
        server.shutdown()


@pytest.fixture(params=[(b"HTTP/1.1 200 OK\r\nX: ", b"x"), (b"", b"HTTP/1.1 100 Continue\r\n\r\n")])
def dripping(request):
    """A server whose headers never end; its address."""
    first, again = request.param

    def drip():
        with listener.accept()[0] as peer, suppress(OSError):
            peer.sendall(first)
            while True:
                peer.sendall(again)
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_headers_that_never_end_are_no_answer(dripping):
    with pytest.raises(OutOfReach, match=r"not complete within 0\.5 s"):
        Connection(dripping, 60.0).ask("GET", "/", 0.5)


def test_headers_of_a_judge_that_never_end_are_no_answer(dripping):
    with pytest.raises(SetupError, match=r"not complete within 0\.5 s"):
        Judge(dripping).greet(0.5)


def test_what_a_server_says_cannot_steer_a_terminal():
    assert Reply(503, {}, b"\x1b[2Jgone").text == "\\x1b[2Jgone"
