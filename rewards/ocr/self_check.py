"""Does the engine read a word at all?"""

from rewards.drawn_word import WORD, ask_for, draw_word
from rewards.errors import SetupError
from rewards.reward import Reward


def read_drawn_word(reward: Reward, word: str = WORD) -> str:
    """Have an OCR reward read a word that is drawn here; SetupError unless it reads it."""
    score = reward.score([draw_word(word)], [ask_for(word)])[0]
    if score.value != 1.0:
        read = score.reason or f'it read "{score.detail}"'
        raise SetupError(
            f"the engine was shown \"{word}\" and {read}: pip install --force-reinstall 'dgpo[{reward.card.extra}]'"
        )
    return f'drew "{word}" and read "{score.detail}"'
