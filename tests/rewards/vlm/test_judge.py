"""Judges behind HTTP, with every fault that a server can have; real sockets on this machine throughout."""

import asyncio
import base64
import io
import time

import numpy as np
import pytest
from PIL import Image

from rewards.errors import ScoringError, SetupError, UsageError
from rewards.vlm.judge import KEY, Judge, check_url
from rewards.vlm.reply import Reply
from tests.rewards.judges import Answer, Script, free_port, saying, serve

IMAGE = Image.fromarray(np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3))
GOOD = saying("Final Score: 4")


def question_of(body):
    return body["messages"][1]["content"][1]["text"]


def echo(number, body):
    return saying(question_of(body))


def in_turn(*answers):
    """The first answers in order, then the last of them for ever."""
    return lambda number, body: answers[min(number, len(answers) - 1)]


def ask_one(script, **settings):
    with serve(script) as url:
        return Judge(url, pause_s=0.01, **settings).ask([IMAGE], ["how good?"])[0]


def test_replies_come_in_order_whichever_is_ready_first():
    script = Script(lambda number, body: saying(question_of(body), wait_s=0.1 - 0.01 * number))
    questions = [f"question {number}" for number in range(10)]
    with serve(script) as url:
        assert Judge(url).ask([IMAGE] * 10, questions) == [Reply(question) for question in questions]


def test_no_more_requests_at_a_time_than_allowed():
    script = Script(lambda number, body: saying(question_of(body), wait_s=0.05))
    with serve(script) as url:
        Judge(url, concurrency=3).ask([IMAGE] * 12, ["q"] * 12)
    assert script.busiest == 3


def test_the_request_says_everything_that_decides_the_reply(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    script = Script(echo)
    ask_one(script, model="UnifiedReward", max_new_tokens=77)
    (body,) = script.asked
    system, user = body.pop("messages")
    assert body == {
        "model": "UnifiedReward",
        "temperature": 0.0,
        "max_tokens": 77,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
    }
    assert system == {"role": "system", "content": "You are a helpful assistant."}
    picture, text = user["content"]
    assert text == {"type": "text", "text": "how good?"}
    prefix, _, data = picture["image_url"]["url"].partition(",")
    assert prefix == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), np.asarray(IMAGE))
    assert "Authorization" not in script.headers[0]


def test_the_key_goes_into_the_header_and_nowhere_else(monkeypatch):
    monkeypatch.setenv(KEY, "s3cret")
    script = Script(in_turn(Answer("no", 403)))
    error = ask_one(script)
    assert script.headers[0]["Authorization"] == "Bearer s3cret"
    assert "s3cret" not in str(error)


def test_the_released_clients_marker_on_demand():
    script = Script(echo)
    assert ask_one(script, image_in_text=True) == Reply("<image>\nhow good?")


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(status):
    script = Script(in_turn(Answer("one moment", status), Answer("another", status), GOOD))
    assert ask_one(script) == Reply("Final Score: 4")
    assert len(script.asked) == 3


def test_429_with_the_same_words_is_no_fault_of_the_request():
    script = Script(in_turn(*[Answer("slow down", 429)] * 4, GOOD))
    assert ask_one(script) == Reply("Final Score: 4")


def test_the_same_500_twice_is_not_asked_a_third_time():
    script = Script(in_turn(Answer("Internal Server Error", 500)))
    error = ask_one(script)
    assert isinstance(error, ScoringError)
    assert "Internal Server Error" in str(error)
    assert "after 2 tries" in str(error)
    assert len(script.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 307])
def test_what_is_refused_fails_at_once(status):
    script = Script(in_turn(Answer("no such thing", status)))
    error = ask_one(script)
    assert f"HTTP {status}: no such thing" in str(error)
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    "body", ["<html>hello</html>", "{", "[]", "{}", '{"choices": []}', '{"choices": [{"message": {"content": 4}}]}']
)
def test_an_answer_that_is_no_completion_fails_and_is_not_asked_again(body):
    script = Script(in_turn(Answer(body)))
    error = ask_one(script)
    assert isinstance(error, ScoringError)
    assert f"no chat completion: {body}" in str(error)
    assert len(script.asked) == 1


def test_no_words_are_a_reply_without_words():
    assert ask_one(Script(in_turn(saying("")))) == Reply("")


def test_a_reply_that_was_cut_says_so():
    answer = saying("Fin")
    answer.body["choices"][0]["finish_reason"] = "length"
    assert ask_one(Script(in_turn(answer))) == Reply("Fin", cut=True)


def test_connections_that_break_are_tried_again():
    script = Script(in_turn(Answer("", hang_up=True), Answer("", hang_up=True), GOOD))
    assert ask_one(script) == Reply("Final Score: 4")
    assert len(script.asked) == 3


def test_a_server_that_hangs_is_given_up_at_the_deadline():
    start = time.monotonic()
    error = ask_one(Script(in_turn(saying("late", wait_s=3))), request_s=0.2, deadline_s=0.5)
    assert "not complete within" in str(error)
    assert time.monotonic() - start < 2.5


def test_one_that_hangs_does_not_hold_up_the_others():
    script = Script(lambda number, body: saying(question_of(body), wait_s=3.0 if question_of(body) == "2" else 0.0))
    with serve(script) as url:
        replies = Judge(url, pause_s=0.01, request_s=0.8, deadline_s=0.9).ask([IMAGE] * 5, list("01234"))
    assert [reply for reply in replies if isinstance(reply, Reply)] == [Reply(text) for text in "0134"]
    assert isinstance(replies[2], ScoringError)


def test_nobody_there_is_an_error_for_every_image_after_one_deadline_for_all():
    url = f"http://127.0.0.1:{free_port()}/v1"
    start = time.monotonic()
    replies = Judge(url, concurrency=2, pause_s=0.05, deadline_s=0.5).ask([IMAGE] * 40, ["q"] * 40)
    assert time.monotonic() - start < 2.5
    assert len(replies) == 40
    for reply in replies:
        assert url in str(reply)
        assert "ConnectError" in str(reply)


def test_a_server_that_comes_back_within_the_deadline_costs_nothing():
    port = free_port()
    script = Script(echo)

    async def come_back(judge):
        asking = asyncio.create_task(asyncio.to_thread(judge.ask, [IMAGE], ["still there?"]))
        await asyncio.sleep(0.3)
        with serve(script, port):
            return await asking

    judge = Judge(f"http://127.0.0.1:{port}/v1", pause_s=0.05, deadline_s=10)
    assert asyncio.run(come_back(judge)) == [Reply("still there?")]


def test_a_server_that_refuses_the_penalty_field_is_asked_without_it_from_then_on():
    def answer(number, body):
        odd = "repetition_penalty" in body
        return Answer("Unexpected fields in the request: {'repetition_penalty'}", 422) if odd else GOOD

    script = Script(answer)
    with serve(script) as url:
        judge = Judge(url, concurrency=4)
        assert judge.ask([IMAGE] * 8, ["q"] * 8) == [Reply("Final Score: 4")] * 8
        assert sum("repetition_penalty" in body for body in script.asked) <= 4
        before = len(script.asked)
        judge.ask([IMAGE], ["q"])
    assert len(script.asked) == before + 1


def test_an_empty_image_is_never_sent():
    script = Script(echo)
    with serve(script) as url:
        replies = Judge(url).ask([Image.new("RGB", (0, 5)), IMAGE], ["a", "b"])
    assert "empty" in str(replies[0])
    assert replies[1] == Reply("b")
    assert len(script.asked) == 1


def test_asked_from_within_a_running_loop():
    async def ask(judge):
        return judge.ask([IMAGE], ["in a notebook"])

    with serve(Script(echo)) as url:
        assert asyncio.run(ask(Judge(url))) == [Reply("in a notebook")]


def test_greeting_nobody_says_where_and_how_to_start_one():
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(SetupError, match="vllm serve") as caught:
        Judge(url, pause_s=0.05).greet(0.3)
    assert url in str(caught.value)
    assert "transformers serve" in str(caught.value)


def test_greeting_waits_for_a_server_that_is_just_starting():
    port = free_port()

    async def start_late(judge):
        greeting = asyncio.create_task(asyncio.to_thread(judge.greet, 10))
        await asyncio.sleep(0.3)
        with serve(Script(echo), port):
            await greeting

    judge = Judge(f"http://127.0.0.1:{port}/v1", pause_s=0.05)
    asyncio.run(start_late(judge))
    assert judge.answered_by == "scripted"


def test_greeting_with_the_wrong_key():
    with serve(Script(echo, models="denied", models_status=401)) as url, pytest.raises(SetupError, match=KEY):
        Judge(url).greet()


@pytest.mark.parametrize(
    ("models", "asked_for"),
    [
        ({"data": [{"id": "the only one"}]}, "the only one"),
        ({"data": [{"id": "one"}, {"id": "two"}]}, None),
        ({"data": []}, None),
        ("not json", None),
    ],
)
def test_the_only_model_is_asked_for_by_its_name(models, asked_for):
    script = Script(echo, models=models)
    with serve(script) as url:
        judge = Judge(url)
        judge.greet()
        judge.ask([IMAGE], ["q"])
    assert script.asked[0].get("model") == asked_for
    assert judge.answered_by == "scripted"  # as the reply says


@pytest.mark.parametrize(
    "url",
    [
        *("127.0.0.1:8000", "ftp://host/v1", "http:///v1", "http://host/v1?key=1", "none"),
        *("http:/\n/host/v1", "http://[host/v1", "http://host:99999/v1", "http://a..b/v1"),
    ],
)
def test_what_is_no_address(url):
    with pytest.raises(UsageError, match="http://HOST:PORT/v1"):
        check_url(url)


def test_passwords_do_not_belong_into_addresses():
    with pytest.raises(UsageError, match=KEY) as caught:
        check_url("http://me:s3cret@host/v1")
    assert "s3cret" not in str(caught.value)


def test_addresses_with_and_without_a_path():
    assert check_url("https://host/") == "https://host/v1"
    assert check_url("https://host:1/openai/v1/") == "https://host:1/openai/v1"
