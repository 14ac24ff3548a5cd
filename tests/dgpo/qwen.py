"""A small Qwen-Image with random weights, whose texts are read by the tiny Qwen2.5-VL of the golden files."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
)
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

READER = Path(__file__).parents[1] / "golden" / "vlm" / "unifiedreward" / "tiny_qwen25vl"


def save_qwen(folder: Path) -> Path:
    torch.manual_seed(0)
    text: Any = Qwen2_5_VLForConditionalGeneration.from_pretrained(READER, dtype=torch.float32)
    autoencoder = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    )
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=text.config.text_config.hidden_size, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.mul_(3)  # or else a text hardly matters
    tokenizer = Qwen2Tokenizer.from_pretrained(READER)
    QwenImagePipeline(FlowMatchEulerDiscreteScheduler(), autoencoder, text, tokenizer, transformer).save_pretrained(
        folder
    )
    return folder
