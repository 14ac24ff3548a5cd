"""Where a served reward lives: the words http(s)://host:port/NAME, taken apart."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from rewards.errors import UsageError
from rewards.secrets import without_secrets

_ADDRESS = re.compile(
    r"(?P<base>https?://[^\s/?#@=]+(?:/[^\s/?#@=\[\]]+)*?)/"
    r"(?P<wanted>(?P<name>[^\s/?#@=\[\]]+)(?:@\d+)?(?:\[[^\[\]]*\])?)(?:#(?P<identity>\w+))?(?:=(?P<weight>.*))?"
)


@dataclass(frozen=True)
class Address:
    """A reward behind HTTP.

    `base` is the server, `name` the reward's name, `wanted` the same with version and options as far as they were
    given; `identity` tells what the server said it was when the spec was made, and is empty in what a person wrote.
    """

    base: str
    name: str
    wanted: str
    identity: str = ""

    def __str__(self) -> str:
        return f"{self.base}/{self.wanted}" + (f"#{self.identity}" if self.identity else "")


def is_address(text: str) -> bool:
    """Whether a text means a served reward.

    >>> is_address("http://gpu1:8000/ocr=0.5"), is_address("path/to/http.py:Class")
    (True, False)
    """
    return text.strip().startswith(("http://", "https://"))


def split_address(text: str) -> tuple[Address, str | None]:
    """The address and the text of the training weight behind it.

    >>> split_address("http://gpu1:8000/ocr@1[weights=v4]=0.5")
    (Address(base='http://gpu1:8000', name='ocr', wanted='ocr@1[weights=v4]', identity=''), '0.5')

    Raises:
        UsageError: it is not of that form, or carries a password, which would end up in records.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or not names_server(match["base"]):
        raise UsageError(
            f'"{without_secrets(text)}" is no address of a reward; write http://HOST:PORT/NAME, as `dgpo serve` '
            "prints it. A token goes into DGPO_REWARD_TOKEN, never into the address."
        )
    address = Address(match["base"], match["name"], match["wanted"], match["identity"] or "")
    return address, match["weight"]


def names_server(url: str) -> bool:
    """Whether a server of that address can be asked at all: a host of the form that hosts have, and a port that may be.

    >>> names_server("https://gpu1:8000/v1"), names_server("http://gpu1:x"), names_server("http://a..b")
    (True, False, False)
    """
    if not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and port != 0
