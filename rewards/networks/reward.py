"""What rewards on a network of our own process have in common: files, device, precision, and what is recorded."""

import importlib

from rewards.card import Card
from rewards.networks.device import DTYPES, pick_device
from rewards.reward import Reward
from rewards.spec import RewardSpec
from rewards.weights.folder import checksums, locate


class NetworkReward(Reward):
    """A reward whose card has the options dtype and device, and files.

    Raises:
        SetupError: files or the device are missing.
    """

    engine = "torch"  # the library whose version is recorded

    def __init__(self, spec: RewardSpec, card: Card) -> None:
        super().__init__(spec, card)
        self.options = card.settle_options(spec.options)
        self.dtype = DTYPES[self.options["dtype"]]
        self.device = pick_device(self.options["device"])
        self.files = locate(card, spec.weights)

    def provenance(self) -> dict[str, str]:
        return {
            "engine": self.engine,
            "engine_version": importlib.import_module(self.engine).__version__,
            "weights": checksums(self.files),
            "device": str(self.device),
            "dtype": self.options["dtype"],
        }
