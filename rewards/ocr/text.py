"""How well a text that was read matches the wanted one (Luo et al. 2025, section 4.1, and its released code).

Two rules, because they differ: `similarity` is what produced the published numbers, `strict_similarity` is the formula
that the paper prints. In the first, case and spaces do not count and extra text around the wanted one is free.
"""

import re
from collections.abc import Iterable

from rapidfuzz.distance import Levenshtein

from rewards.errors import UsageError
from rewards.prompt import Prompt

_OTHER_SPACE = re.compile(r"[^\S ]")


def quoted_target(prompt: Prompt) -> str:
    """The text a prompt wants to see: what follows its first straight double quote, up to the next or the end.

    A line break, a tab, a no-break or other space in it is an ASCII space, since no engine reads any of them.

    >>> quoted_target(Prompt('A sign that says "Wet Floor"'))
    'Wet Floor'

    Raises:
        UsageError: nothing in straight double quotes, only spaces, or the first quote stands behind a digit and so is
            an inch mark; the message names the prompt.
    """
    before, quote, rest = prompt.text.partition('"')
    if not quote:
        raise UsageError(
            f"The OCR reward needs the wanted text in straight double quotes, and this prompt has none: {prompt.text}"
        )
    if before[-1:].isdigit():
        raise UsageError(
            f"The OCR reward takes the text after the first double quote, which is an inch mark in this prompt; write "
            f"{before.split()[-1]} inch: {prompt.text}"
        )
    target = _OTHER_SPACE.sub(" ", rest.partition('"')[0])
    if not normalise(target):
        raise UsageError(f"The OCR reward needs some text between the quotes of this prompt: {prompt.text}")
    return target


def normalise(text: str) -> str:
    """Without ASCII spaces and in lower case; every other character stays as it is."""
    return text.replace(" ", "").lower()


def join_confident(lines: Iterable[tuple[str, float]]) -> str:
    """The lines an engine read, without separator, leaving out those of no confidence at all (released code)."""
    return "".join(text for text, confidence in lines if confidence > 0)


def join_all(lines: Iterable[tuple[str, float]]) -> str:
    """The lines an engine read, without separator."""
    return "".join(text for text, _ in lines)


def similarity(read: str, wanted: str) -> float:
    """Share of `wanted` that survives in `read`, in [0, 1]; case and spaces do not count, extra text is free.

    1 when the normalised `wanted` occurs anywhere in the normalised `read`, else 1 - min(edits, n) / n with n the
    length of the normalised `wanted`. Characters are code points.

    >>> similarity("help", "Hello")
    0.6
    >>> similarity("say hello again", "Hello")
    1.0
    """
    read, wanted = normalise(read), normalise(wanted)
    edits = 0 if wanted in read else Levenshtein.distance(read, wanted)
    return 1 - min(edits, len(wanted)) / len(wanted)


def strict_similarity(read: str, wanted: str) -> float:
    """max(1 - edits / n, 0) on the texts as they are, n the length of `wanted`; each extra character costs.

    >>> strict_similarity("hello!", "Hello")
    0.6
    """
    return max(1 - Levenshtein.distance(read, wanted) / len(wanted), 0.0)
