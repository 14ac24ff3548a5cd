"""GenEval as a reward: find the objects, tell their colours, and judge them by the published rules.

Two cards share this: `geneval` is the graded mark that is trained on, `geneval-official` the verdict that tables count.
An image is looked at once, whichever of the two asks; see `detail` for what both say of it beside their value.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import cast

import torch
from PIL.Image import Image

from rewards.card import Card
from rewards.clip.network import Activation, share_tower
from rewards.errors import SetupError
from rewards.finding import Finding
from rewards.geneval.clauses import Request, read_request
from rewards.geneval.colours import Colours, find_tokens, share_colours
from rewards.geneval.crops import crop_object
from rewards.geneval.detail import write_detail
from rewards.geneval.detection_cache import DetectionCache
from rewards.geneval.detections import THRESHOLD, Found, keep_objects
from rewards.geneval.rules import judge
from rewards.geneval.self_check import check_detector, check_rules
from rewards.geneval.self_test import DRAWN, NONE, insist_on_objects
from rewards.networks.reward import NetworkReward
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.shared import shared
from rewards.spec import RewardSpec
from rewards.weights.folder import checksums

Detected = Mapping[str, Sequence[Found]]
_HUB_NETWORKS = ("model.safetensors", "pytorch_model.bin")


class GenEval(NetworkReward):
    """The training reward: see `rules.grade`, or `rules.grade_fixed` with rules=fixed.

    Prompts carry what they ask for as GenEval's records do: tag, include, exclude.

    Raises:
        SetupError: weights or a library are missing, or files are broken or do not belong together.
    """

    large = ("detector", "colours")
    engine = "transformers"  # colours always, and objects unless detector=mmdet

    def __init__(self, spec: RewardSpec, card: Card) -> None:
        super().__init__(spec, card)
        self.rules = self.options.get("rules", "official")
        _ = self.detector, self.colours  # what is missing is said now

    def check(self, prompt: Prompt) -> None:
        read_request(prompt)

    def verify(self) -> None:
        """Raise SetupError where the detector finds nothing in the pictures that the option trial names."""
        trial = self.options["trial"]
        if trial != NONE:
            insist_on_objects(self.spec.name, self.detector, None if trial == DRAWN else Path(trial))

    @classmethod
    def rule_checks(cls, key: str) -> list[Finding]:
        return check_rules(key)

    def self_checks(self, pictures: Path | None) -> list[Finding]:
        return [check_detector(self.spec.key, self.detector, pictures)]

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        requests = [read_request(prompt) for prompt in prompts]
        raws = self.detector.look(images)
        detected = [keep_objects(raw, request.tag) for raw, request in zip(raws, requests, strict=True)]
        seen = self._tell_colours(images, requests, detected)
        return [self._judge(request, objects, seen) for request, objects in zip(requests, detected, strict=True)]

    def provenance(self) -> dict[str, str]:
        # The checkpoint may have any name, and the published one would say what it is not.
        named = {path.name if name.endswith(".pth") else name: path for name, path in self.files.items()}
        detector = "native" if self.options["detector"] == "native" else f"mmdet {version('mmdet')}"
        return {**super().provenance(), "weights": checksums(named), "detector": detector}

    def _tell_colours(
        self, images: Sequence[Image], requests: Sequence[Request], detected: Sequence[Detected]
    ) -> dict[tuple[int, str], str]:
        """The colours of all objects of a call that some rule will ask for, by object and class."""
        wanted = {
            (id(one), name): (image, one)
            for image, request, objects in zip(images, requests, detected, strict=True)
            for name, found in coloured_objects(request, objects)
            for one in found
        }
        crops = [crop_object(image, one) for image, one in wanted.values()]
        return dict(zip(wanted, self.colours.classify(crops, [name for _, name in wanted]), strict=True))

    def _judge(self, request: Request, detected: Detected, seen: Mapping[tuple[int, str], str]) -> Score:
        verdict = judge(request, detected, lambda found, name: [seen[id(one), name] for one in found], self.rules)
        detail = write_detail(request, verdict, detected, lambda one, name: seen.get((id(one), name)))
        return Score(verdict.score, detail)

    @cached_property
    def detector(self) -> DetectionCache:
        checkpoint, beside = self.files[self.card.files[0].path], self.files.get("arch.json")
        swap = self.options["channels"] == "swapped"
        if self.options["detector"] == "native":
            return _share_native(checkpoint.resolve(), beside and beside.resolve(), self.dtype, self.device, swap)
        config = self.files.get(self.card.files[2].path)
        if config is None:
            raise SetupError(
                f"detector=mmdet needs mmdet's config file beside the checkpoint, in a folder for --weights "
                f"{self.spec.name}=DIR: {self.card.files[2].path} of mmdet's configs/mask2former, of the version that "
                "is installed."
            )
        return _share_mmdet(checkpoint.resolve(), config.resolve(), str(self.device), swap)

    @cached_property
    def colours(self) -> Colours:
        network = self.files["clip/model.safetensors"]
        hub = network.name in _HUB_NETWORKS
        config = self.files.get("clip/config.json")
        if hub and config is None:
            raise SetupError(f"{network} needs the config.json that is published with it, beside it.")
        activation = cast(Activation, self.options["activation"])
        tower = share_tower(network, config if hub else None, self.device, self.dtype, activation)
        return share_colours(tower, find_tokens(list(self.files.values()), tower, hub=hub))


class OfficialGenEval(GenEval):
    """The official verdict, 1 or 0: see `rules.evaluate`."""


def coloured_objects(request: Request, detected: Detected) -> list[tuple[str, Sequence[Found]]]:
    """For each clause with a colour, its class and the objects that the official or the graded rules look at.

    The graded rules look at a clause's objects only if there are exactly as many as asked for, so that theirs are among
    those of the official ones.
    """
    clauses = [clause for clause in request.include if clause.colour]
    groups = [(clause, detected.get(clause.name, ())) for clause in clauses]
    return [(clause.name, found[: clause.count]) for clause, found in groups if len(found) >= clause.count]


@shared
def _share_native(
    checkpoint: Path, architecture: Path | None, dtype: torch.dtype, device: torch.device, swap: bool
) -> DetectionCache:
    from rewards.geneval.detector import Mask2FormerDetector

    detector = Mask2FormerDetector(
        checkpoint, architecture, dtype=dtype, device=device, swap_channels=swap, above=THRESHOLD
    )
    return DetectionCache(detector.detect)


@shared
def _share_mmdet(checkpoint: Path, config: Path, device: str, swap: bool) -> DetectionCache:
    from rewards.geneval.mmdet import MmdetDetector

    return DetectionCache(MmdetDetector(checkpoint, config, device=device, swap_channels=swap).detect)
