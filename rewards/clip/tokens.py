"""Texts to CLIP's tokens, cleaned as transformers or as OpenAI cleans them; they differ for quotes, entities and so on.

Shapes: N texts, L ids of each.
"""

import html
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from pathlib import Path

import torch
from tokenizers import normalizers
from transformers import CLIPTokenizer

from rewards.errors import SetupError, load_extra


def find_tokenizer(files: Iterable[Path]) -> Path:
    """The folder of a tokenizer's files.

    Raises:
        SetupError: they are not among the files.
    """
    folders = {file.name: file.parent for file in files}
    if "tokenizer.json" in folders:
        return folders["tokenizer.json"]
    if {"vocab.json", "merges.txt"} <= folders.keys():
        return folders["vocab.json"]
    folder = next(iter(folders.values()))
    raise SetupError(f"There is no tokenizer in {folder}: tokenizer.json, or vocab.json and merges.txt.")


@cache
def share_tokens(folder: Path, length: int) -> "ClipTokens":
    return ClipTokens(folder, length)


class ClipTokens:
    """Ids [N, length] of texts: start, text, end, filled up; a text that is too long loses its tail, never its end.

    Args:
        folder: with tokenizer.json, or vocab.json and merges.txt; read at the first use.
        length: L, the positions of the text tower.
    """

    def __init__(self, folder: Path, length: int) -> None:
        self.folder, self.length = folder, length

    def published(self, texts: Sequence[str]) -> torch.Tensor:
        """As transformers: Unicode NFC, runs of spaces as one, lower case; "&amp;" and curly quotes are as they are."""
        return self._encode(self._tokenizer, texts)

    def openai(self, texts: Sequence[str]) -> torch.Tensor:
        """As OpenAI's CLIP: mojibake mended and curly quotes straightened by ftfy, HTML entities read, lower case."""
        return self._encode(self._plain_tokenizer, [clean(text) for text in texts])

    def _encode(self, tokenizer: CLIPTokenizer, texts: Sequence[str]) -> torch.Tensor:
        encoded = tokenizer(list(texts), padding="max_length", truncation=True, max_length=self.length)
        return torch.tensor(encoded["input_ids"])

    @cached_property
    def _tokenizer(self) -> CLIPTokenizer:
        return CLIPTokenizer.from_pretrained(self.folder, local_files_only=True)

    @cached_property
    def _plain_tokenizer(self) -> CLIPTokenizer:
        """The same vocabulary and rules, for texts that are already clean."""
        tokenizer = CLIPTokenizer.from_pretrained(self.folder, local_files_only=True)
        tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([])
        return tokenizer


def clean(text: str) -> str:
    """A text as OpenAI's tokenizer sees it.

    Raises:
        SetupError: ftfy is not installed.
    """
    ftfy = load_extra("ftfy", "openclip")
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()
