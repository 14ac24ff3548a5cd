"""The embedded model's tokenizer: CLIP's, with a vocabulary of letters and the few words of its one sentence.

The template's words are single tokens, the quoted word is spelled letter by letter, so letter i of every sign stands at
the same place of the token sequence.
"""

from transformers import AddedToken, CLIPTokenizer

from dgpo.models.tiny.words import COLOURS

MAX_LENGTH = 16
TEMPLATE_WORDS = ("a", "sign", "that", "says", *COLOURS)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def build_tokenizer() -> CLIPTokenizer:
    """Letters inside a word, letters that end a word (`x</w>`), the quotation mark, and the template's words whole."""
    symbols = ["<|startoftext|>", "<|endoftext|>", '"', '"</w>']
    symbols += list(_LETTERS) + [f"{letter}</w>" for letter in _LETTERS]
    tokenizer = CLIPTokenizer(
        vocab={symbol: place for place, symbol in enumerate(symbols)}, merges=[], model_max_length=MAX_LENGTH
    )
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in TEMPLATE_WORDS])
    return tokenizer
