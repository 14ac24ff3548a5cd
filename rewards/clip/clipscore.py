"""CLIPScore: similarity of image and prompt in CLIP, in each of the definitions that are in use.

They differ in the tokens, in how the image is prepared, and in what is done with the cosine. The paper (Hessel et al.
2021, arXiv 2104.08718) defines it on ViT-B/32; on other weights, ViT-L/14 as the card has it included, it is a variant.
"""

from collections.abc import Sequence

from PIL.Image import Image

from rewards.card import Card
from rewards.clip.definitions import DEFINITIONS
from rewards.clip.network import cosines
from rewards.clip.reward import ClipReward
from rewards.clip.tokens import clean, find_tokenizer, share_tokens
from rewards.errors import UsageError
from rewards.networks.preprocess import Way
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.spec import RewardSpec


class ClipScore(ClipReward):
    """One class for all definitions."""

    folder = "clip/"

    def __init__(self, spec: RewardSpec, card: Card) -> None:
        super().__init__(spec, card)
        self.definition = definition = DEFINITIONS[self.options["definition"]]
        antialias = self.options["antialias"] == "true"
        if not antialias and definition.way != "bilinear":
            raise UsageError("clipscore's antialias=false is for definition=dgpo and definition=diffusionnft alone.")
        if definition.way == "rgb-first":
            self.way = self.published_way
        else:
            self.way = Way(definition.way, self.tower.image_size, antialias=antialias)
        tokens = share_tokens(find_tokenizer(self.files.values()), self.tower.text_length)
        if definition.tokens == "openai":
            clean("")  # says now, not at the first image, that ftfy is missing
        self.tokens = tokens.openai if definition.tokens == "openai" else tokens.published
        self.factor = definition.factor * (self.tower.logit_scale if definition.scaled else 1.0)

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        if not images:
            return []
        texts_ND = self.tower.text_features([self.definition.prefix + prompt.text for prompt in prompts], self.tokens)
        scores_N = self.factor * cosines(texts_ND, self.tower.image_features(images, self.way))
        return [Score(value) for value in scores_N.clamp(min=self.definition.floor).tolist()]
