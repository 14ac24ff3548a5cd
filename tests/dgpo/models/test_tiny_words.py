import numpy as np
import pytest

from dgpo.models.tiny import signs
from dgpo.models.tiny.pretrain import draw_signs
from dgpo.models.tiny.words import COLOURS, held_out_words, sign_prompt, sign_prompts, training_words


def test_held_out_words_are_no_training_words():
    assert not set(held_out_words()) & set(training_words())
    assert len(held_out_words()) >= 100
    assert len(training_words()) >= 500


@pytest.mark.parametrize("words", [training_words(), held_out_words()])
def test_words_are_distinct_small_letters_of_drawable_length(words):
    assert len(set(words)) == len(words)
    for word in words:
        assert word.isascii()
        assert word.isalpha()
        assert word.islower()
        assert signs.SHORTEST <= len(word) <= signs.LONGEST


class Scripted(np.random.Generator):
    """A generator of chosen letters: never a real word, then each word's length and letters in turn."""

    def __init__(self, words):
        super().__init__(np.random.PCG64(0))
        self.words = iter(words)
        self.word = ""

    def random(self, *_):
        return 1.0

    def integers(self, low, high=None, size=None, **_):
        if size is None:
            self.word = next(self.words)
            return len(self.word)
        assert size == len(self.word)
        return np.array([signs.LETTERS.index(letter) for letter in self.word])


def test_random_letters_that_happen_to_be_a_held_out_word_are_thrown_away():
    """Every one of them is tried: what comes out is the word after them."""
    assert signs.random_word(Scripted([*held_out_words(), "zqxjk"])) == "zqxjk"
    assert signs.random_word(Scripted(["abc"])) == "abc"


def test_pictures_of_pretraining_hold_no_held_out_word_and_every_prompt_says_what_is_drawn():
    rng = np.random.default_rng(0)
    words = [signs.random_word(rng) for _ in range(5000)]
    assert not set(words) & set(held_out_words())
    assert 0.25 < sum(word in set(training_words()) for word in words) / len(words) < 0.35
    assert {len(word) for word in words} == {3, 4, 5, 6}
    pixels, prompts = draw_signs(6, np.random.default_rng(3), signs.draw_sign)
    assert pixels.shape == (6, 3, signs.HEIGHT, signs.WIDTH)
    assert len(set(prompts)) == 6


def test_misspellings_differ_in_two_thirds_of_the_letters_and_are_no_held_out_words():
    rng = np.random.default_rng(0)
    for word, most in (("ant", 2), ("able", 2), ("abbey", 3), ("harbor", 4)):
        changed = [signs._misspell(word, rng) for _ in range(300)]
        distances = [sum(a != b for a, b in zip(word, other, strict=True)) for other in changed]
        assert max(distances) == most
        assert most - 0.3 < np.mean(distances) < most
        assert not set(changed) & set(held_out_words())


def test_misspelling_that_happens_to_be_a_held_out_word_is_done_again(monkeypatch):
    first = signs._misspell("anchor", np.random.default_rng(1))
    monkeypatch.setattr(signs, "held_out_words", lambda: (first,))
    assert signs._misspell("anchor", np.random.default_rng(1)) not in (first, "anchor")


def test_training_prompts_use_every_colour_and_no_held_out_word():
    prompts = sign_prompts(training_words())
    assert len(set(prompts)) == len(training_words())
    spoken = {prompt.split('"')[1] for prompt in prompts}
    assert spoken == set(training_words())
    counts = [sum(f" {colour} " in prompt for prompt in prompts) for colour in COLOURS]
    assert max(counts) - min(counts) <= 1
    assert sign_prompt("harbor", "blue") == 'a blue sign that says "harbor"'
