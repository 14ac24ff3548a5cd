"""A reward that ends the program in place of judging."""

import sys

from rewards.card import Card
from rewards.reward import Reward


class Broken(Reward):
    card = Card(name="broken", version=1, unit="x", bounds=(0, 1), higher_is_better=True, summary="for tests")

    def score(self, images, prompts):
        sys.exit(0)
