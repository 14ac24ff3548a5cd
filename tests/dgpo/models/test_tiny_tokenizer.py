import pytest
from transformers import AutoTokenizer

from dgpo.models.tiny.tokenizer import MAX_LENGTH, build_tokenizer
from dgpo.models.tiny.words import COLOURS, held_out_words, sign_prompt, training_words


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_a_prompt_by_hand(tokenizer):
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(sign_prompt("harbor", "blue")).input_ids)
    bare = [token.removesuffix("</w>") for token in tokens]
    assert bare[1:-1] == ["a", "blue", "sign", "that", "says", '"', "h", "a", "r", "b", "o", "r", '"']
    assert (tokens[0], tokens[-1]) == ("<|startoftext|>", "<|endoftext|>")


def test_letter_i_of_every_word_stands_at_the_same_place_and_every_prompt_fits(tokenizer):
    for place, word in enumerate(training_words() + held_out_words()):
        ids = tokenizer(sign_prompt(word, COLOURS[place % len(COLOURS)])).input_ids
        tokens = [token.removesuffix("</w>") for token in tokenizer.convert_ids_to_tokens(ids)]
        assert tokens[7 : 7 + len(word)] == list(word), word
        assert tokens[6] == tokens[7 + len(word)] == '"'
        assert len(ids) == 9 + len(word) <= MAX_LENGTH
        assert tokenizer.unk_token_id not in ids[1:-1]


def test_a_letter_at_the_end_of_a_word_is_no_letter_within(tokenizer):
    first, second = (tokenizer(sign_prompt(word, "red")).input_ids for word in ("aba", "aab"))
    assert first[7] == second[7] == second[8]
    assert first[9] != first[7]


def test_padding_is_to_the_models_length(tokenizer):
    assert len(tokenizer("", padding="max_length").input_ids) == MAX_LENGTH


def test_saved_tokenizer_is_the_same(tokenizer, model_folder):
    saved = AutoTokenizer.from_pretrained(model_folder / "tokenizer")
    for word in training_words()[:50]:
        text = sign_prompt(word, "yellow")
        assert saved(text).input_ids == tokenizer(text).input_ids
