import hmac

import pytest

from rewards.errors import UsageError
from rewards.serving.auth import check_token, read_token, refuse_open_door
from rewards.serving.limits import Refusal

TOKEN = "0123456789abcdef"


def test_a_file_goes_before_the_environment(tmp_path, monkeypatch):
    assert read_token(None) is None
    monkeypatch.setenv("DGPO_SERVE_TOKEN", TOKEN)
    (tmp_path / "token").write_text(TOKEN[::-1] + "\n")
    assert read_token(None) == TOKEN
    assert read_token(tmp_path / "token") == TOKEN[::-1]


@pytest.mark.parametrize("text", ["", "short", TOKEN + "ä", TOKEN[:8] + " " + TOKEN[8:], TOKEN + "\n" + TOKEN])
def test_a_weak_token_is_refused(tmp_path, text):
    (tmp_path / "token").write_text(text)
    with pytest.raises(UsageError, match="openssl rand"):
        read_token(tmp_path / "token")


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_token(tmp_path / "none")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_the_loopback_needs_no_token(host):
    refuse_open_door(host, None)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "gpu1", "localhost.example", ""])
def test_other_addresses_need_one(host):
    with pytest.raises(UsageError, match="a token is needed"):
        refuse_open_door(host, None)
    refuse_open_door(host, TOKEN)


@pytest.mark.parametrize(
    "header", [None, "", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer \xe4"]
)
def test_only_the_token_opens(header):
    check_token(f"Bearer {TOKEN}", TOKEN)
    check_token(header, None)
    with pytest.raises(Refusal) as refusal:
        check_token(header, TOKEN)
    assert refusal.value.status == 401
    assert TOKEN not in refusal.value.sentence


def test_tokens_are_compared_in_constant_time(monkeypatch):
    seen = []
    monkeypatch.setattr(hmac, "compare_digest", lambda *pair: seen.append(pair) or True)
    check_token("Bearer anything", TOKEN)
    assert seen == [(b"anything", TOKEN.encode())]
