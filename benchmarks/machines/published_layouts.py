"""Folders of published models as far as their small files tell of them: configs in full size, weights of no size."""

import json
from pathlib import Path
from typing import Any

CLIP_L = {
    "architectures": ["CLIPTextModelWithProjection"], "hidden_size": 768, "intermediate_size": 3072,
    "num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 77, "vocab_size": 49408,
    "projection_dim": 768, "model_type": "clip_text_model",
}  # fmt: skip
CLIP_G = {
    **CLIP_L, "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
    "projection_dim": 1280,
}  # fmt: skip
T5_XXL = {
    "d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_layers": 24, "num_heads": 64, "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu", "model_type": "t5",
}  # fmt: skip
QWEN_VL_7B = {
    "model_type": "qwen2_5_vl",
    "text_config": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152064, "model_type": "qwen2_5_vl_text",
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    },
    "vision_config": {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
        "patch_size": 14, "model_type": "qwen2_5_vl",
    },
}  # fmt: skip
AUTOENCODER = {
    "_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
    "latent_channels": 16, "norm_num_groups": 32, "sample_size": 1024, "in_channels": 3, "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
FLOW = "FlowMatchEulerDiscreteScheduler"
SHIFTED = {
    "_class_name": FLOW, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15,
    "base_image_seq_len": 256, "max_image_seq_len": 4096, "shift": 3.0,
}  # fmt: skip

Part = tuple[str, str, dict[str, Any]]
"""Library, class and config."""


def stable_diffusion_3(layers: int, dual_attention: int) -> dict[str, Part]:
    """Of each size the width is 64 times the layers; so many first layers of Medium attend to the image once more."""
    return {
        "transformer": ("diffusers", "SD3Transformer2DModel", {
            "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": layers,
            "attention_head_dim": 64, "num_attention_heads": layers, "joint_attention_dim": 4096,
            "caption_projection_dim": 64 * layers, "pooled_projection_dim": 2048,
            "pos_embed_max_size": 384 if dual_attention else 192,
            "dual_attention_layers": list(range(dual_attention)), "qk_norm": "rms_norm",
        }),
        "vae": ("diffusers", "AutoencoderKL", {**AUTOENCODER, "scaling_factor": 1.5305, "shift_factor": 0.0609}),
        "text_encoder": ("transformers", "CLIPTextModelWithProjection", CLIP_L),
        "text_encoder_2": ("transformers", "CLIPTextModelWithProjection", CLIP_G),
        "text_encoder_3": ("transformers", "T5EncoderModel", T5_XXL),
        "scheduler": ("diffusers", FLOW, {"_class_name": FLOW, "shift": 3.0}),
    }  # fmt: skip


MODELS: dict[str, dict[str, Part]] = {
    "StableDiffusion3Pipeline": stable_diffusion_3(24, 13),
    "FluxPipeline": {
        "transformer": ("diffusers", "FluxTransformer2DModel", {
            "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
            "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768,
            "guidance_embeds": True, "axes_dims_rope": [16, 56, 56],
        }),
        "vae": ("diffusers", "AutoencoderKL", {**AUTOENCODER, "scaling_factor": 0.3611, "shift_factor": 0.1159}),
        "text_encoder": ("transformers", "CLIPTextModel", CLIP_L),
        "text_encoder_2": ("transformers", "T5EncoderModel", T5_XXL),
        "scheduler": ("diffusers", FLOW, SHIFTED),
    },
    "QwenImagePipeline": {
        "transformer": ("diffusers", "QwenImageTransformer2DModel", {
            "patch_size": 2, "in_channels": 64, "out_channels": 16, "num_layers": 60, "attention_head_dim": 128,
            "num_attention_heads": 24, "joint_attention_dim": 3584, "axes_dims_rope": [16, 56, 56],
        }),
        "vae": ("diffusers", "AutoencoderKLQwenImage", {
            "base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2,
            "temperal_downsample": [False, True, True], "latents_mean": [0.0] * 16, "latents_std": [1.0] * 16,
        }),
        "text_encoder": ("transformers", "Qwen2_5_VLForConditionalGeneration", QWEN_VL_7B),
        "scheduler": ("diffusers", FLOW, {**SHIFTED, "max_shift": 0.9, "max_image_seq_len": 8192, "shift": 1.0,
                                          "shift_terminal": 0.02}),
    },
}  # fmt: skip
NO_WEIGHTS = (2).to_bytes(8, "little") + b"{}"


def index_of(name: str, parts: dict[str, Part]) -> dict[str, Any]:
    """model_index.json."""
    return {"_class_name": name, **{part: [library, kind] for part, (library, kind, _) in parts.items()}}


def save_layout(name: str, folder: Path) -> Path:
    """The folder of a pipeline class's published model."""
    parts = MODELS[name]
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps(index_of(name, parts)))
    for part, (library, kind, config) in parts.items():
        (folder / part).mkdir()
        scheduler = part == "scheduler"
        file = "scheduler_config.json" if scheduler else "config.json"
        (folder / part / file).write_text(json.dumps({"_class_name": kind, **config}))
        if not scheduler:
            weights = "diffusion_pytorch_model" if library == "diffusers" else "model"
            (folder / part / f"{weights}.safetensors").write_bytes(NO_WEIGHTS)
    return folder
