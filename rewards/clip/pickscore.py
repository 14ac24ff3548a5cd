"""PickScore (Kirstain et al. 2023, arXiv 2305.01569): similarity in a CLIP that was tuned on what people chose.

Raw, as tables print it: exp(logit_scale) * cos(text, image), the factor being the checkpoint's own. Training code
divides by 26, which is the card's train scale.
"""

from collections.abc import Sequence
from pathlib import Path

from PIL.Image import Image

from rewards.card import Card
from rewards.clip.network import cosines
from rewards.clip.reward import ClipReward
from rewards.clip.tokens import find_tokenizer, share_tokens
from rewards.finding import Finding
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.spec import RewardSpec


class PickScore(ClipReward):
    def __init__(self, spec: RewardSpec, card: Card) -> None:
        super().__init__(spec, card)
        self.tokens = share_tokens(find_tokenizer(self.files.values()), self.tower.text_length)

    def self_checks(self, pictures: Path | None) -> list[Finding]:
        words = f"the file's exp(logit_scale) is {self.tower.logit_scale:.2f}"
        return [Finding(self.spec.key, "logit scale", "not checked", words)]

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        if not images:
            return []
        texts_ND = self.tower.text_features([prompt.text for prompt in prompts], self.tokens.published)
        images_ND = self.tower.image_features(images, self.published_way)
        logits_N = self.tower.logit_scale * cosines(texts_ND, images_ND)
        return [Score(value) for value in logits_N.tolist()]
