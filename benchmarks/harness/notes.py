"""Sentences for a person."""

from collections.abc import Callable


class Notes:
    """Passed on as they come, and kept for the summary."""

    def __init__(self, pass_on: Callable[[str], None]) -> None:
        self.sentences: list[str] = []
        self.pass_on = pass_on

    def add(self, sentence: str) -> None:
        self.sentences.append(sentence)
        self.pass_on(sentence)

    def add_once(self, sentence: str) -> None:
        """Unless somebody has said it already."""
        if sentence not in self.sentences:
            self.add(sentence)
