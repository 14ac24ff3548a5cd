"""The words that the embedded model is taught, trained and tested on.

Held-out words appear in no pretraining picture (not even by chance, among random strings) and in no training prompt;
`tests/dgpo/models/test_tiny_words.py` holds that.
"""

from functools import cache
from pathlib import Path

COLOURS = ("black", "blue", "green", "red", "white", "yellow")
_HERE = Path(__file__).parent


@cache
def training_words() -> tuple[str, ...]:
    """Words of 3 to 6 letters for pretraining and for training prompts."""
    return tuple((_HERE / "words_train.txt").read_text().split())


@cache
def held_out_words() -> tuple[str, ...]:
    """Words of 3 to 6 letters that only evaluation may use."""
    return tuple((_HERE / "words_held_out.txt").read_text().split())


def sign_prompt(word: str, colour: str) -> str:
    """The one sentence that the model understands.

    >>> sign_prompt("harbor", "blue")
    'a blue sign that says "harbor"'
    """
    return f'a {colour} sign that says "{word}"'


def sign_prompts(words: tuple[str, ...]) -> list[str]:
    """One prompt a word; the colour follows from the word's place, so that every colour serves as often."""
    return [sign_prompt(word, COLOURS[place % len(COLOURS)]) for place, word in enumerate(words)]
