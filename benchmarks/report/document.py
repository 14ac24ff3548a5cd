"""The page as a file: template, style and script of our own, and data that no text in it can escape from.

Nothing is loaded from anywhere but the images beside the page, which the page's own security policy enforces: it names
the style and the script by their hashes and forbids all connections.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

SCRIPTS = ("data.js", "plots.js", "curves.js", "viewer.js", "dialog.js", "start.js")
PLACE = re.compile(r"<!--(\w+)-->")


def parts(pieces: Mapping[str, str]) -> tuple[bytes, bytes, bytes]:
    """The document around its thumbnails and its data: what comes before, between and after them.

    `pieces` is HTML by the name of its place in the template, <!--name-->.
    """
    style, script = _read("report.css"), _read_script()
    filled = {**pieces, "policy": _policy(style, script), "style": style, "script": script}
    texts = re.split("<!--thumbnails-->|<!--data-->", _read("template.html"))
    before, between, after = (
        PLACE.sub(lambda place: filled[place[1]], text).encode("utf-8", "replace") for text in texts
    )
    return before, between, after


def to_json(value: Any) -> bytes:
    """Strict JSON that may stand inside a script element: no text in it can close the element or open a comment.

    >>> to_json("</script><!--")
    b'"\\\\u003c/script>\\\\u003c!--"'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").encode("utf-8", "replace")


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src 'self' file: data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _read_script() -> str:
    return '"use strict";\n(() => {\n' + "\n".join(map(_read, SCRIPTS)) + "})();\n"


def _read(name: str) -> str:
    return files("benchmarks.report").joinpath("page", name).read_text(encoding="utf-8").replace("\r\n", "\n")
