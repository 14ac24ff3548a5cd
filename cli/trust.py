"""Code and servers that a file of settings names are used only if this command line names them too.

A recipe, or the config.yaml of a run folder, may be somebody else's. A Python file that it names as a reward would be
run, and a server would be sent images, prompts and the token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rewards.errors import UsageError
from rewards.remote.address import is_address

if TYPE_CHECKING:
    from dgpo.config import Config

# A server's address: a word of its own up to its path; and within other words, where commas and brackets end it (but
# for the brackets of an address by number, as in http://[::1]:8000).
_SERVED = re.compile(r"[^/]*//[^\s/?#]*")
_WITHIN = re.compile(r"\w+://(?:\[[\w:.%]*\]|[^\s/?#\[\],])*")


def reaches(text: str) -> set[str]:
    """The Python files and servers that one word of a setting names, each in one form however it was written.

    >>> sorted(reaches("http://gpu1:8000/ocr=0.5")), reaches("ocr@1[weights=v4]")
    (['http://gpu1:8000'], set())
    """
    from rewards.parse import named_file

    if is_address(text):
        return {_SERVED.findall(text.strip())[0].lower()}
    file = named_file(text)
    servers = {address.lower() for address in _WITHIN.findall(text)}
    if "://" in text and not servers:
        servers = {text}  # an address by a library's notion, perhaps
    return servers if file is None else {file, *servers}


def check_trust(config: Config, words: Any, source: str, *, trust: bool) -> list[str]:
    """What a config reaches that nothing given on the command line (`words`) names; it has to be trusted, and is said.

    Raises:
        UsageError: there is something, and no `trust`.
    """
    unnamed = sorted(_all(config.model_dump(mode="json")) - _all(words))
    if unnamed and not trust:
        raise UsageError(
            f"{source} names {', '.join(unnamed)}, and this command line does not. A Python file would be run, and a "
            "server would be sent images, prompts and your token. Look at it; then name it with --reward (or --set) "
            "as well, or say --trust-run."
        )
    return unnamed


def _all(values: Any) -> set[str]:
    return {found for text in _texts(values) for found in reaches(text)}


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping):
        for inner in values.values():
            yield from _texts(inner)
    elif isinstance(values, list | tuple):
        for inner in values:
            yield from _texts(inner)
