"""Tokens and keys: read from the environment in one place, sent in a header, and never shown or recorded."""

import os
import re
from urllib.parse import urlsplit

from rewards.errors import UsageError

# User and password of an address, and what stands behind its question mark; a path makes one slash of two. Of the
# scheme one letter is enough: asked for all of it, a long word without an address takes time in the square.
_USER = re.compile(r"(\w:/+)[^\s/@\"']+@")
_QUERY = re.compile(r"(\w:/+[^\s?\"']*\?)[^\s\"'\]),]+")


def read_secret(name: str) -> str | None:
    """The secret in an environment variable, without the white space that files and shells leave around it.

    Raises:
        UsageError: it cannot stand in an HTTP header; the sentence does not show it.
    """
    text = os.environ.get(name, "").strip()
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise UsageError(
            f"{name} holds more than a token: a space, a line break or a letter outside ASCII within it. "
            "Put the token alone into it."
        )
    return text or None


def without_secrets(url: str) -> str:
    """An address as it may be shown: without user, password, query and fragment.

    >>> without_secrets("http://me:secret@gpu1:8000/ocr?key=secret")
    'http://gpu1:8000/ocr'
    """
    try:
        parts = urlsplit(url.strip())
        place = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "the address"
    return f"{parts.scheme}://{place}{parts.path}" if "@" not in parts.path else f"{parts.scheme}://..."


def hide_secrets(words: str) -> str:
    """A sentence in which no address shows user, password or query, however a person came to put them there.

    >>> hide_secrets("[http://me:secret@gpu1:8000/ocr?key=secret] is no address, http://gpu1:8000/ocr@1 is one")
    '[http://gpu1:8000/ocr?...] is no address, http://gpu1:8000/ocr@1 is one'
    """
    return _QUERY.sub(r"\1...", _USER.sub(r"\1", words))
