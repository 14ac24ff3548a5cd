"""The embedded model's networks: the classes that SD3.5 is made of, small, initialised to be trained from scratch."""

# Annotations in diffusers and transformers are narrower than what their functions take: lines that say `ignore`.

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from dgpo.models.tiny.signs import HEIGHT, WIDTH

LATENT_CHANNELS = 8
DOWNSAMPLING = 4
TEXT_WIDTH = 64


def build_autoencoder() -> AutoencoderKL:
    """Pixels [3, 32, 64] to latents [8, 8, 16] and back."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * 3,  # pyright: ignore[reportArgumentType]
        block_out_channels=(16, 32, 32),  # pyright: ignore[reportArgumentType]
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=WIDTH,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def encode_pixels(autoencoder: AutoencoderKL, x_BCHW: torch.Tensor) -> DiagonalGaussianDistribution:
    """The distribution of latents; diffusers says that it gives a tuple."""
    return autoencoder.encode(x_BCHW).latent_dist  # pyright: ignore[reportAttributeAccessIssue]


def decode_latents(autoencoder: AutoencoderKL, x_BCHW: torch.Tensor) -> torch.Tensor:
    """Pixels; diffusers says that it may give them without their name."""
    return autoencoder.decode(x_BCHW).sample  # pyright: ignore[reportArgumentType, reportAttributeAccessIssue]


def build_transformer() -> SD3Transformer2DModel:
    """Five joint-attention blocks, width 128, SD3.5's query and key norm; each block starts as the identity."""
    transformer = SD3Transformer2DModel(
        sample_size=WIDTH // DOWNSAMPLING,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=5,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=2 * TEXT_WIDTH,
        caption_projection_dim=128,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=max(HEIGHT, WIDTH) // DOWNSAMPLING,
        qk_norm="rms_norm",
    )
    start_as_identity(transformer)
    return transformer


def start_as_identity(transformer: SD3Transformer2DModel) -> None:
    """Zero every modulation and the output layer (adaLN-Zero, Peebles and Xie 2022), which diffusers leaves random."""
    modulations = [
        module.linear for module in transformer.modules() if type(module).__name__.startswith("AdaLayerNorm")
    ]
    for linear in [*modulations, transformer.proj_out]:
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """Two layers of width 64; SD3 reads the tokens before the last layer and the pooled vector after it."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act="quick_gelu",
        bos_token_id=tokenizer.bos_token_id,  # pyright: ignore[reportArgumentType]
        eos_token_id=tokenizer.eos_token_id,  # pyright: ignore[reportArgumentType]
        pad_token_id=tokenizer.pad_token_id,  # pyright: ignore[reportArgumentType]
    )
    return CLIPTextModelWithProjection(config)


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """SD3.5's schedule, shift 3."""
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0)


def encode_ids(encoders: nn.ModuleList, ids_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Token states [B, T, 128] and pooled vector [B, 128], as `StableDiffusion3Pipeline.encode_prompt` joins them."""
    outputs = [encoder(ids_BT, output_hidden_states=True) for encoder in encoders]
    states = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    pooled = torch.cat([output.text_embeds for output in outputs], dim=-1)
    return states, pooled
