"""What the rewards on a CLIP of the hub have in common: the shared tower, and how images are prepared for it."""

from functools import cached_property

from rewards.card import Card
from rewards.clip.network import ClipTower, share_tower
from rewards.networks.reward import NetworkReward
from rewards.spec import RewardSpec


class ClipReward(NetworkReward):
    """A reward with a CLIP among its files.

    Raises:
        SetupError: files are missing, broken or do not belong together.
    """

    engine = "transformers"
    large = ("tower",)
    folder = ""  # of the CLIP, within the weights; ends in a slash

    def __init__(self, spec: RewardSpec, card: Card) -> None:
        super().__init__(spec, card)
        self.published_way = self.tower.published_way(self.files[f"{self.folder}preprocessor_config.json"])

    @cached_property
    def tower(self) -> ClipTower:
        network, config = (self.files[self.folder + name] for name in ("model.safetensors", "config.json"))
        return share_tower(network, config, self.device, self.dtype)
