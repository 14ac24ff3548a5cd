"""What the rewards on a CLIP of the hub have in common: files, device, the shared tower, and what is recorded."""

import transformers

from rewards.card import Card
from rewards.clip import share_tower
from rewards.device import DTYPES, pick_device
from rewards.reward import Reward
from rewards.spec import RewardSpec
from rewards.weights import checksums, locate


class ClipReward(Reward):
    """A reward whose card has the options dtype and device, and a CLIP among its files.

    Raises:
        SetupError: files are missing, broken or do not belong together.
    """

    folder = ""  # of the CLIP, within the weights; ends in a slash

    def __init__(self, spec: RewardSpec, card: Card) -> None:
        super().__init__(spec, card)
        self.options = card.settle_options(spec.options)
        self.device = pick_device(self.options["device"])
        self.files = locate(card, spec.weights)
        network, config = (self.files[self.folder + name] for name in ("model.safetensors", "config.json"))
        self.tower = share_tower(network, config, self.device, DTYPES[self.options["dtype"]])
        self.published_way = self.tower.published_way(self.files[f"{self.folder}preprocessor_config.json"])

    def provenance(self) -> dict[str, str]:
        return {
            "engine": "transformers",
            "engine_version": transformers.__version__,
            "weights": checksums(self.files),
            "device": str(self.device),
            "dtype": self.options["dtype"],
        }
