"""A CLIP of the model hub as a source of features, loaded once per process for all rewards that use the same files.

Its files are transformers' (a network and its config.json), or one file in open_clip's format.

Shapes: N texts or images, B a batch of them, D the projection's width, L the text tower's positions.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from PIL.Image import Image
from torch.nn.functional import cosine_similarity, linear
from transformers import CLIPConfig, CLIPModel

from rewards.clip.keys import convert, describe, read_open_clip
from rewards.errors import SetupError
from rewards.networks.device import exactly
from rewards.networks.features import Features, Memory
from rewards.networks.preprocess import Way, read_way
from rewards.shared import shared
from rewards.weights.checkpoint import load_strictly, read_config, read_state

Tokenise: TypeAlias = Callable[[Sequence[str]], torch.Tensor]
# published: what the files say. quickgelu: that of OpenAI's models; files that say otherwise are refused. gelu: plain
# GELU whatever they say.
Activation: TypeAlias = Literal["published", "quickgelu", "gelu"]

TEXT_BATCH = 64
# In files written before transformers 4.31; they hold 0, 1, 2, ... and nothing else.
_COUNTING = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
_EOS_BEFORE_4_31 = 2


def share_tower(
    network: Path,
    config: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    activation: Activation = "published",
) -> "ClipTower":
    """The one tower of these files in this process, on that device in that precision.

    Whoever asks for an activation that is the published one has the tower of those who ask for none.

    Args:
        config: its config.json; None where `network` is in open_clip's format, which tells its sizes.

    Raises:
        SetupError: the files are broken, do not belong together, or are of a network with another activation.
    """
    network, config = _place_of(network), _place_of(config) if config else None
    act = None if activation == "published" else _settle_activation(activation, network, config)
    return _load_tower(network, config, device, dtype, act)


class ClipTower:
    """Features of images and texts by one CLIP; its files tell every size, and the activation unless `act` does.

    The towers run in `dtype` from their first use on; projections, features and everything behind them are fp32.
    """

    def __init__(
        self, network: Path, config: Path | None, device: torch.device, dtype: torch.dtype, act: str | None = None
    ) -> None:
        self.device, self.dtype = device, dtype
        self.network = _build(_read_description(network, config), config or network, act)
        state = read_state(network) if config else convert(read_open_clip(network))
        load_strictly(self.network, state, network, ignore=_COUNTING)
        _count_positions(self.network)
        self.memory = Memory()
        self.features: dict[Way, Features] = {}

    @property
    def image_size(self) -> int:
        return cast(int, self.network.vision_model.embeddings.image_size)

    @property
    def text_length(self) -> int:
        return self.network.text_model.embeddings.position_embedding.num_embeddings

    @property
    def width(self) -> int:
        """D, of the space that images and texts share."""
        return self.network.visual_projection.out_features

    @cached_property
    def logit_scale(self) -> float:
        """The factor that the cosine was trained with: exp of the checkpoint's parameter, in fp32."""
        return self.network.logit_scale.float().exp().item()

    def published_way(self, preprocessor: Path) -> Way:
        """The way of preparing images that is published beside this network, in preprocessor_config.json.

        Raises:
            SetupError: it is not reproduced here, or gives another size than the network's.
        """
        way = read_way(preprocessor)
        if way.size != self.image_size:
            raise SetupError(
                f"{preprocessor} prepares images of {way.size} pixels and the network sees {self.image_size}; "
                "take both files from one place."
            )
        return way

    def image_features(self, images: Sequence[Image], way: Way) -> torch.Tensor:
        """Projected features, not normalised: fp32 [N, D]; pixels that were seen before are not encoded again."""
        features = self.features.setdefault(way, Features(way, self._encode_images, memory=self.memory))
        with exactly(self.device):
            return features.of(images)

    def text_features(self, texts: Sequence[str], tokens: Tokenise) -> torch.Tensor:
        """Projected features, not normalised: fp32 [N, D]; equal texts are encoded once.

        Args:
            tokens: texts to ids [N, L] as the tower was trained on them; what follows the end of text is ignored.

        Raises:
            SetupError: the tokens are not those of this network.
        """
        rows = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        ids_NL = tokens(list(rows))
        with exactly(self.device):
            features_ND = torch.cat([self._encode_texts(ids_BL) for ids_BL in ids_NL.split(TEXT_BATCH)])
            return features_ND[[rows[text] for text in texts]]

    def _encode_images(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        self.network.eval()
        pooled = self._vision(pixel_values=pixels_BCHW.to(self.device, self.dtype)).pooler_output
        return linear(pooled.float(), self._vision_projection)

    def _encode_texts(self, ids_BL: torch.Tensor) -> torch.Tensor:
        """The tower is causal, so that nothing behind the end of the longest text can change anything."""
        self.network.eval()
        ids_BL = ids_BL[:, : self._ends(ids_BL).max() + 1]
        pooled = self._text(input_ids=ids_BL.to(self.device)).pooler_output
        return linear(pooled.float(), self._text_projection)

    def _ends(self, ids_BL: torch.Tensor) -> torch.Tensor:
        """Where each text ends, which is where the network reads it: the first eos, or highest id in old files."""
        eos = self.network.text_model.eos_token_id
        vocabulary = self.network.text_model.embeddings.token_embedding.num_embeddings
        is_end = torch.eq(ids_BL, ids_BL.amax(1, keepdim=True) if eos == _EOS_BEFORE_4_31 else cast(int, eos))
        if ids_BL.max() >= vocabulary or not is_end.any(1).all():
            raise SetupError(
                f"The tokenizer does not belong to the network, which knows {vocabulary} tokens and the end {eos}; "
                "take both from one place."
            )
        return is_end.int().argmax(1)

    @cached_property
    def _vision(self) -> torch.nn.Module:
        return self._place(self.network.vision_model)

    @cached_property
    def _text(self) -> torch.nn.Module:
        return self._place(self.network.text_model)

    @cached_property
    def _vision_projection(self) -> torch.Tensor:
        return self.network.visual_projection.weight.to(self.device, torch.float32)

    @cached_property
    def _text_projection(self) -> torch.Tensor:
        return self.network.text_projection.weight.to(self.device, torch.float32)

    def _place(self, tower: torch.nn.Module) -> torch.nn.Module:
        with torch.inference_mode(False), torch.no_grad():
            return tower.to(self.device, self.dtype)


def cosines(one_ND: torch.Tensor, other_ND: torch.Tensor) -> torch.Tensor:
    """Of the rows, pair by pair: fp32 [N]."""
    return cosine_similarity(one_ND, other_ND, dim=1)


@shared
def _load_tower(
    network: Path, config: Path | None, device: torch.device, dtype: torch.dtype, act: str | None
) -> ClipTower:
    return ClipTower(network, config, device, dtype, act)


def _settle_activation(wanted: Activation, network: Path, config: Path | None) -> str | None:
    """transformers' name of the wanted activation; None where it is the published one anyway."""
    act = {"quickgelu": "quick_gelu", "gelu": "gelu"}[wanted]
    source = config or network
    published = {tower.hidden_act for tower in _towers(_parse(_read_description(network, config), source))}
    if published == {act}:
        return None
    if wanted == "quickgelu":
        raise SetupError(
            f"{source} is of a network with the activation {' and '.join(sorted(published))}, and OpenAI's have "
            "quick_gelu, which a copy in another format may have lost. Take their files, or choose activation=gelu."
        )
    return act


def _place_of(path: Path) -> Path:
    """One name for one folder; the file's own stays, as a link in the hub's cache leads to one without a suffix."""
    return path.parent.resolve() / path.name


def _read_description(network: Path, config: Path | None) -> dict[str, Any]:
    """What a config.json says, or what one would say of a file in open_clip's format."""
    return read_config(config) if config else describe(read_open_clip(network), network)


def _build(description: dict[str, Any], source: Path, act: str | None) -> CLIPModel:
    """The network that is described, without memory for its weights."""
    config = _parse(description, source)
    if act is not None:
        for tower in _towers(config):
            tower.hidden_act = act
    try:
        with torch.device("meta"):
            return CLIPModel(config)
    except (ValueError, TypeError, KeyError) as error:
        raise SetupError(f"{source} does not describe a CLIP: {error}") from error


def _parse(description: dict[str, Any], source: Path) -> CLIPConfig:
    kind = description.get("model_type")
    if kind != "clip":
        raise SetupError(f'{source} describes a network of the type "{kind}", not a CLIP.')
    try:
        return CLIPConfig.from_dict(description)
    except (StrictDataclassError, ValueError, TypeError, KeyError) as error:
        raise SetupError(f"{source} does not describe a CLIP: {error}") from error


def _towers(config: CLIPConfig) -> list[Any]:
    return [config.vision_config, config.text_config]


def _count_positions(network: CLIPModel) -> None:
    """Position numbers are part of no new file and were left on the meta device."""
    for embeddings in (network.text_model.embeddings, network.vision_model.embeddings):
        numbers = torch.arange(embeddings.position_embedding.num_embeddings)[None]
        embeddings.register_buffer("position_ids", numbers, persistent=False)
