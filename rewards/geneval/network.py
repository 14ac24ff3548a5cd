"""GenEval's Mask2Former in transformers, filled from an mmdet checkpoint without a tensor guessed or left random.

Shapes: B images, H, W the padded size, Q queries, C classes.
"""

from pathlib import Path

import torch
from accelerate import init_empty_weights
from torch import nn
from transformers import Mask2FormerConfig, Mask2FormerModel, SwinConfig

from rewards.errors import SetupError
from rewards.geneval.architecture import SWIN_S, Architecture, check_architecture, read_architecture
from rewards.geneval.keymap import convert, rename_3x
from rewards.geneval.objects import OBJECTS
from rewards.shared import shared
from rewards.weights.checkpoint import load_strictly, read_state

ARCHITECTURE_FILE = "arch.json"


class Mask2Former(nn.Module):
    """Backbone, the two decoders and the heads of classes and masks; for inference only.

    transformers' own class with these heads needs scipy for a loss that nobody computes here.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.model = Mask2FormerModel(configure(architecture))
        self.class_predictor = nn.Linear(architecture.hidden_dim, architecture.classes + 1)
        # Feature maps are normalised one by one; the norm behind the last block serves classifiers only.
        self.model.pixel_level_module.encoder.swin.layernorm = nn.Identity()

    def forward(self, pixels_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits in fp32: of the classes and of "nothing" [B, Q, C+1], and of the masks at a quarter [B, Q, H/4, W/4].

        A reduced precision is for the backbone alone. The decoders attend to fractions of a pixel, whose coordinates
        half precision cannot hold.
        """
        pixel_level = self.model.pixel_level_module
        backbone = pixel_level.encoder
        maps = backbone(pixels_B3HW.to(next(backbone.parameters()).dtype)).feature_maps
        decoded = pixel_level.decoder([feature_map.float() for feature_map in maps], output_hidden_states=False)
        queries = self.model.transformer_module(
            multi_scale_features=decoded.multi_scale_features, mask_features=decoded.mask_features
        )
        classes_BQC = self.class_predictor(queries.intermediate_hidden_states[-1].transpose(0, 1))
        return classes_BQC, queries.masks_queries_logits[-1]

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to the device; the backbone into `dtype`, the rest into fp32."""
        self.to(device, torch.float32)
        self.model.pixel_level_module.encoder.to(dtype)


@shared
def load_network(checkpoint: Path, architecture: Path | None, dtype: torch.dtype, device: torch.device) -> Mask2Former:
    """One network for equal arguments in this process; it stays mapped on disk until it is placed.

    The architecture is that of the file, or of an arch.json beside the checkpoint, or the published one's.

    Raises:
        SetupError: the files do not fit each other, or the network has other classes than GenEval.
    """
    beside = checkpoint.with_name(ARCHITECTURE_FILE)
    path = architecture or (beside if beside.is_file() else None)
    said = SWIN_S if path is None else read_architecture(path)
    state = read_published(checkpoint)
    source = "mask2former_swin-s of the card" if path is None else str(path)
    check_architecture(said, {rename_3x(name): tensor for name, tensor in state.items()}, checkpoint, source)
    if said.classes != len(OBJECTS):
        raise SetupError(f"{checkpoint} knows {said.classes} classes; GenEval needs the {len(OBJECTS)} of COCO.")
    with init_empty_weights(include_buffers=False):
        network = Mask2Former(said)
    load_strictly(network, convert(state, checkpoint), checkpoint)
    return network


def read_published(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The tensors of an mmdet checkpoint, which keeps them beside a record of their training.

    Raises:
        SetupError: it is no such file.
    """
    content = read_state(checkpoint)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise SetupError(f"{checkpoint} is not a checkpoint of mmdet: it has no state_dict of tensors.")
    return state


def configure(architecture: Architecture) -> Mask2FormerConfig:
    """In transformers' words; its decoder counts the first guess, before any layer, as one more."""
    swin = architecture.swin
    backbone = {
        "embed_dim": swin.embed_dim,
        "depths": list(swin.depths),
        "num_heads": list(swin.num_heads),
        "window_size": swin.window,
        "mlp_ratio": swin.mlp_ratio,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    sizes = {
        "feature_size": architecture.feature_size,
        "mask_feature_size": architecture.mask_feature_size,
        "hidden_dim": architecture.hidden_dim,
        "encoder_layers": architecture.pixel_decoder_layers,
        "encoder_feedforward_dim": architecture.pixel_decoder_ffn,
        "decoder_layers": architecture.decoder_layers + 1,
        "dim_feedforward": architecture.decoder_ffn,
        "num_attention_heads": architecture.heads,
        "num_queries": architecture.queries,
        "num_labels": architecture.classes,
    }
    return Mask2FormerConfig.from_dict({**sizes, "backbone_config": SwinConfig.from_dict(backbone)})
