"""A tiny model of every family that can be trained, with random weights, in exactly the layout that is published.

Widths are as small as the networks allow; weights that start from zero are made random, or nothing would depend on
them.
"""

# Annotations in diffusers and transformers are narrower than what their functions take and give.

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizerFast,  # pyright: ignore[reportAttributeAccessIssue]
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralImageProcessor,
    PixtralProcessor,
    PixtralVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,  # pyright: ignore[reportAttributeAccessIssue]
)

from dgpo.models.tiny import network
from dgpo.models.tiny.tokenizer import build_tokenizer

READER = Path(__file__).parents[2] / "golden" / "vlm" / "unifiedreward" / "tiny_qwen25vl"
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INSTRUCTED = (
    "{{ bos_token }}{% for message in messages %}{% set text = message.content[0].text %}"
    "{% if message.role == 'system' %}[SYSTEM_PROMPT]{{ text }}[/SYSTEM_PROMPT]"
    "{% else %}[INST]{{ text }}[/INST]{% endif %}{% endfor %}"
)
CLIP_WIDTH, T5_WIDTH = 64, 32


def save_tiny(name: str, folder: Path, **changes: Any) -> Path:
    """The model of a pipeline class; `changes` are settings of its network."""
    torch.manual_seed(0)
    pipeline = BUILDERS[name](**changes)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():
                if not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.1)
    pipeline.save_pretrained(folder)
    return folder


def t5_tokenizer() -> Any:
    """T5's own kind, a unigram model, that knows the words of two prompts."""
    words = ["a", "sign", "that", "says", "black", "blue", '"anchor"', '"basket"']
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"\u2581{word}", -1.0) for word in words)]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def t5(tokenizer: Any) -> Any:
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer), d_model=T5_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
            feed_forward_proj="gated-gelu",
        )
    )  # fmt: skip


def autoencoder(channels: int, **changes: Any) -> Any:
    """One that divides by 8, as those of FLUX and Stable Diffusion 3."""
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
        block_out_channels=(8, 8, 8, 8),  # pyright: ignore[reportArgumentType]
        **{
            "layers_per_block": 1, "latent_channels": channels, "norm_num_groups": 4, "sample_size": 64,
            "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False,
            **changes,
        },
    )  # fmt: skip


def sd3(**changes: Any) -> Any:
    clip, other = build_tokenizer(), t5_tokenizer()
    transformer = diffusers.SD3Transformer2DModel(
        **{
            "sample_size": 8, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 2,
            "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 2 * CLIP_WIDTH,
            "caption_projection_dim": 32, "pooled_projection_dim": 2 * CLIP_WIDTH, "pos_embed_max_size": 12,
            "dual_attention_layers": (0,), "qk_norm": "rms_norm", **changes,
        }
    )  # fmt: skip
    encoder = t5(other)
    encoder = T5EncoderModel(T5Config(**{**encoder.config.to_dict(), "d_model": 2 * CLIP_WIDTH}))
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(16, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=network.build_text_encoder(clip), tokenizer=clip,
        text_encoder_2=network.build_text_encoder(clip), tokenizer_2=clip, text_encoder_3=encoder, tokenizer_3=other,
    )  # fmt: skip


def flux_scheduler(**changes: Any) -> Any:
    settings = {
        "use_dynamic_shifting": True, "shift": 3.0, "base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256,
        "max_image_seq_len": 4096, **changes,
    }  # fmt: skip
    return diffusers.FlowMatchEulerDiscreteScheduler(**settings)


def flux(**changes: Any) -> Any:
    clip, other = build_tokenizer(), t5_tokenizer()
    settings = CLIPTextConfig(
        vocab_size=len(clip), hidden_size=CLIP_WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=clip.model_max_length, projection_dim=CLIP_WIDTH, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    transformer = diffusers.FluxTransformer2DModel(
        **{
            "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
            "num_attention_heads": 2, "joint_attention_dim": T5_WIDTH, "pooled_projection_dim": CLIP_WIDTH,
            "guidance_embeds": True, "axes_dims_rope": (4, 6, 6), **changes,
        }
    )  # fmt: skip
    return diffusers.FluxPipeline(
        scheduler=flux_scheduler(), vae=autoencoder(4), text_encoder=CLIPTextModel(settings), tokenizer=clip,
        text_encoder_2=t5(other), tokenizer_2=other, transformer=transformer,
    )  # fmt: skip


def qwen_image(**changes: Any) -> Any:
    text: Any = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_pretrained(READER)).float()
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[-0.7, 0.1, 0.4, 0.9],
        latents_std=[2.8, 1.4, 2.3, 0.6],
    )  # fmt: skip
    transformer = diffusers.QwenImageTransformer2DModel(
        **{
            "patch_size": 2, "in_channels": 16, "out_channels": 4, "num_layers": 1, "attention_head_dim": 16,
            "num_attention_heads": 2, "joint_attention_dim": text.config.text_config.hidden_size,
            "axes_dims_rope": (4, 6, 6), **changes,
        }
    )  # fmt: skip
    shift = {"max_shift": 0.9, "max_image_seq_len": 8192, "shift": 1.0, "shift_terminal": 0.02}
    tokenizer = Qwen2Tokenizer.from_pretrained(READER)
    return diffusers.QwenImagePipeline(flux_scheduler(**shift), vae, text, tokenizer, transformer)


def qwen3(tokenizer: Any, layers: int) -> Any:
    return Qwen3Model(
        Qwen3Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=layers,
            num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=1024,
        )
    )  # fmt: skip


def z_image(**changes: Any) -> Any:
    tokenizer: Any = Qwen2Tokenizer.from_pretrained(READER)
    tokenizer.chat_template = CHAT
    transformer = diffusers.ZImageTransformer2DModel(
        **{
            "in_channels": 4, "dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2,
            "cap_feat_dim": 32, "axes_dims": [4, 6, 6], "axes_lens": [1024, 64, 64], **changes,
        }
    )  # fmt: skip
    text = qwen3(tokenizer, 3)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return diffusers.ZImagePipeline(scheduler, autoencoder(4), text, tokenizer, transformer)


def flux2_parts(**changes: Any) -> dict[str, Any]:
    """What klein and dev have both, beside what reads texts."""
    vae: Any = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=64,
        mid_block_add_attention=False,
    )  # fmt: skip
    with torch.no_grad():
        vae.bn.running_mean.uniform_(-0.5, 0.5)
        vae.bn.running_var.uniform_(0.5, 3)
    transformer = diffusers.Flux2Transformer2DModel(
        **{
            "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
            "num_attention_heads": 2, "joint_attention_dim": 96, "timestep_guidance_channels": 16,
            "axes_dims_rope": (4, 4, 4, 4), **changes,
        }
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    return {"scheduler": scheduler, "vae": vae, "transformer": transformer}


def flux2_klein(**changes: Any) -> Any:
    tokenizer: Any = Qwen2Tokenizer.from_pretrained(READER)
    tokenizer.chat_template = CHAT
    text = Qwen3ForCausalLM(qwen3(tokenizer, 28).config)  # of which three layers up to the 27th are read
    distilled = changes.pop("is_distilled", False)
    parts = flux2_parts(**{"guidance_embeds": False, **changes})
    return diffusers.Flux2KleinPipeline(text_encoder=text, tokenizer=tokenizer, is_distilled=distilled, **parts)


def flux2_dev(**changes: Any) -> Any:
    processor = pixtral_processor()
    text = Mistral3ForConditionalGeneration(
        Mistral3Config(
            text_config=MistralConfig(
                vocab_size=len(processor.tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=31,
                num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=1024,
            ),  # of which three layers up to the 30th are read
            vision_config=PixtralVisionConfig(
                hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1, image_size=28,
                patch_size=14,
            ),
            image_token_index=processor.image_token_id,
        )
    )  # fmt: skip
    return diffusers.Flux2Pipeline(text_encoder=text, tokenizer=processor, **flux2_parts(**changes))


def pixtral_processor() -> Any:
    """With a tokenizer of Mistral's kind, by bytes, that knows single ones and pads before a text."""
    special = ["<unk>", "<s>", "</s>", "<pad>"]
    marks = ["[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    vocab = [*special, *marks, *sorted(ByteLevel.alphabet())]
    pieces = Tokenizer(BPE(vocab={token: place for place, token in enumerate(vocab)}, merges=[]))
    pieces.pre_tokenizer = ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        extra_special_tokens=marks, padding_side="left",
    )  # fmt: skip
    images = PixtralImageProcessor()
    return PixtralProcessor(images, tokenizer, patch_size=14, spatial_merge_size=2, chat_template=INSTRUCTED)


def sana(**changes: Any) -> Any:
    tokenizer = gemma_tokenizer()
    text = Gemma2Model(
        Gemma2Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=16, pad_token_id=0, eos_token_id=1, bos_token_id=2,
        )
    )  # fmt: skip
    vae = diffusers.AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types="ResBlock",
        decoder_block_types="ResBlock", encoder_block_out_channels=(8, 8, 8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8, 8, 8), encoder_layers_per_block=(1, 1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1, 1), encoder_qkv_multiscales=((), (), (), (), (), ()),
        decoder_qkv_multiscales=((), (), (), (), (), ()), upsample_block_type="pixel_shuffle",
        downsample_block_type="pixel_unshuffle", decoder_norm_types="rms_norm", decoder_act_fns="silu",
        scaling_factor=0.41407,
    )  # fmt: skip
    transformer = diffusers.SanaTransformer2DModel(
        **{
            "in_channels": 4, "out_channels": 4, "num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16,
            "num_cross_attention_heads": 2, "cross_attention_head_dim": 16, "cross_attention_dim": 32,
            "caption_channels": 32, "sample_size": 32, "patch_size": 1, **changes,
        }
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++", solver_order=2, prediction_type="flow_prediction", use_flow_sigmas=True,
        flow_shift=3.0,
    )  # fmt: skip
    return diffusers.SanaPipeline(tokenizer, text, vae, transformer, scheduler)


def gemma_tokenizer() -> Any:
    """Of Gemma's kind, that knows single characters."""
    letters = [chr(code) for code in range(33, 127)]
    vocab = ["<pad>", "<eos>", "<bos>", "<unk>", "\u2581", *letters]
    return GemmaTokenizerFast(vocab={token: place for place, token in enumerate(vocab)}, merges=[])


def sdxl(**changes: Any) -> Any:
    clip = build_tokenizer()

    def settings(width: int) -> Any:
        return CLIPTextConfig(
            vocab_size=len(clip), hidden_size=width, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=clip.model_max_length, projection_dim=32, bos_token_id=0, eos_token_id=1,
        )  # fmt: skip

    unet = diffusers.UNet2DConditionModel(
        **{
            "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (8, 16),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "norm_num_groups": 4,
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 64,
            "attention_head_dim": (2, 4), "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 32 + 6 * 8, "transformer_layers_per_block": (1, 1),
            "use_linear_projection": True, **changes,
        }
    )  # fmt: skip
    scheduler: Any = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )
    return diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(4, scaling_factor=0.13025, shift_factor=None, use_quant_conv=True, use_post_quant_conv=True),
        text_encoder=CLIPTextModel(settings(32)), text_encoder_2=CLIPTextModelWithProjection(settings(32)),
        tokenizer=clip, tokenizer_2=clip, unet=unet, scheduler=scheduler, add_watermarker=False,
    )  # fmt: skip


BUILDERS: dict[str, Callable[..., Any]] = {
    "Flux2KleinPipeline": flux2_klein,
    "Flux2Pipeline": flux2_dev,
    "FluxPipeline": flux,
    "QwenImagePipeline": qwen_image,
    "SanaPipeline": sana,
    "StableDiffusion3Pipeline": sd3,
    "StableDiffusionXLPipeline": sdxl,
    "ZImagePipeline": z_image,
}
