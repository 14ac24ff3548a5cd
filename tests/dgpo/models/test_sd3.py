# Annotations in diffusers and transformers are narrower than what their functions take and give.

import math
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from PIL import Image
from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5TokenizerFast  # pyright: ignore[reportAttributeAccessIssue]

from dgpo.load import load_model
from dgpo.models.decoded import to_uint8
from dgpo.models.sd3 import SD3
from dgpo.models.tiny import network
from dgpo.models.tiny.tokenizer import MAX_LENGTH, build_tokenizer
from dgpo.precision import dtype_of
from tests.dgpo.training import PROMPTS, brightness, small_config, train

CLIP_WIDTH, T5_WIDTH = 64, 160


def build_t5_tokenizer():
    """T5's own kind, a unigram model, that knows the words of two prompts."""
    words = ["a", "sign", "that", "says", "black", "blue", '"anchor"', '"basket"']
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"\u2581{word}", -1.0) for word in words)]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


@pytest.fixture(scope="module")
def sd3_folder(tmp_path_factory):
    """SD3.5-M in small: three text encoders, dual attention in the first block, an autoencoder that divides by 8."""
    torch.manual_seed(0)
    clip_tokenizer = build_tokenizer()
    t5_tokenizer = build_t5_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * CLIP_WIDTH,
        pos_embed_max_size=12,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * 4,  # pyright: ignore[reportArgumentType]
        block_out_channels=(8, 8, 8, 8),  # pyright: ignore[reportArgumentType]
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(t5_tokenizer),
            d_model=T5_WIDTH,
            d_kv=8,
            d_ff=32,
            num_layers=1,
            num_heads=2,
            feed_forward_proj="gated-gelu",
        )
    )
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder,
        text_encoder=network.build_text_encoder(clip_tokenizer),
        tokenizer=clip_tokenizer,
        text_encoder_2=network.build_text_encoder(clip_tokenizer),
        tokenizer_2=clip_tokenizer,
        text_encoder_3=t5,
        tokenizer_3=t5_tokenizer,
    )
    folder = tmp_path_factory.mktemp("models") / "sd3"
    pipeline.save_pretrained(folder)
    return folder


def load(folder, **changes) -> SD3:
    settings: dict[str, Any] = {"dtype": "fp32", "device": torch.device("cpu"), "text_length": 12} | changes
    model = load_model(str(folder), **settings)
    assert isinstance(model, SD3)
    return model


@pytest.mark.parametrize("text_length", [5, 12])
def test_t5_tokens_follow_those_of_clip(sd3_folder, text_length):
    conditioning = load(sd3_folder, text_length=text_length).encode([prompt.text for prompt in PROMPTS[:2]])
    assert conditioning.states_NTD.shape == (2, MAX_LENGTH + text_length, T5_WIDTH)
    assert conditioning.pooled_NP.shape == (2, 2 * CLIP_WIDTH)
    clip, t5 = conditioning.states_NTD.split([MAX_LENGTH, text_length], dim=1)
    assert not clip[:, :, 2 * CLIP_WIDTH :].any()  # padded to T5's width
    assert t5.any(dim=-1).all()
    assert not torch.equal(t5[0], t5[1])


def test_model_without_t5_has_no_t5_tokens_whatever_length_is_asked_for(model_folder):
    conditioning = load(model_folder, text_length=128).encode(["a red sign"])
    assert conditioning.states_NTD.shape == (1, MAX_LENGTH, 2 * CLIP_WIDTH)


def test_encoding_is_what_the_embedded_model_is_pretrained_with(model_folder):
    model = load(model_folder)
    texts = [prompt.text for prompt in PROMPTS] + [""]
    ids = build_tokenizer()(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    encoders = torch.nn.ModuleList([model.pipeline.text_encoder, model.pipeline.text_encoder_2])
    assert all(isinstance(encoder, CLIPTextModelWithProjection) for encoder in encoders)
    with torch.no_grad():
        states, pooled = network.encode_ids(encoders, ids)
    conditioning = model.encode(texts)
    torch.testing.assert_close(conditioning.states_NTD, states, rtol=0, atol=1e-5)
    torch.testing.assert_close(conditioning.pooled_NP, pooled, rtol=0, atol=1e-5)


def test_latents_have_the_models_size_or_the_one_asked_for(sd3_folder, model_folder):
    assert load(sd3_folder).latent_shape(None, None) == (16, 8, 8)
    assert load(sd3_folder).latent_shape(96, 64) == (16, 12, 8)
    assert load(model_folder).latent_shape(32, 64) == (8, 8, 16)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_trains_with_guidance_clip_and_kl(sd3_folder, tmp_path, dtype):
    changes = {
        "steps": 1,
        "training.dtype": dtype,
        "training.checkpointing": True,
        "sampling": {"sampler": "dpm++", "steps": 4, "guidance": 4.5, "text_length": 12},
        "dgpo.kl": 0.02,
        "dgpo.clip": 0.01,
        "advantage.std": "batch",
    }
    trainer = train(small_config(sd3_folder, changes), tmp_path, value=brightness)
    (line,) = trainer.run.read_metrics()
    assert line["passes"] == {"rollout": 8, "old": 2, "reference": 2, "current": 2, "backward": 2, "recompute": 2}
    assert math.isfinite(line["loss"])
    assert line["gradient_norm"] > 0
    still = [name for name, p in trainer.policy.trained.items() if "lora_B" in name and not p.any()]
    assert any("attn2" in name for name in trainer.policy.trained) is False
    # The last block throws its context tokens away, so that their queries matter to nobody.
    assert still == ["transformer_blocks.1.attn.add_q_proj.lora_B.policy.weight"]
    kinds = {
        p.dtype for name, p in trainer.policy.model.transformer.named_parameters() if name not in trainer.policy.trained
    }
    assert kinds == {torch.bfloat16 if dtype == "bf16" else torch.float32}


def test_decoding_undoes_scale_and_shift_once(sd3_folder, monkeypatch):
    model, seen = load(sd3_folder), []
    decode = model.pipeline.vae.decode
    monkeypatch.setattr(
        model.pipeline.vae, "decode", lambda latents, **options: (seen.append(latents), decode(latents, **options))[1]
    )
    (image,) = model.decode(torch.full((1, 16, 8, 8), 1.5305))
    torch.testing.assert_close(seen[0], torch.full((1, 16, 8, 8), 1 + 0.0609))
    assert isinstance(image, Image.Image)
    assert (image.size, image.mode) == ((64, 64), "RGB")


def test_images_are_encoded_as_what_decodes_to_them(sd3_folder):
    """The autoencoder's mean, without noise, scaled and shifted as the transformer's latents are."""
    model = load(sd3_folder)
    (image,) = model.decode(torch.randn((1, 16, 8, 8), generator=torch.Generator().manual_seed(0)))
    assert isinstance(image, Image.Image)
    encoded = model.encode_images([image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])
    assert (encoded.shape, encoded.dtype) == ((2, 16, 8, 8), torch.float32)
    assert not torch.equal(encoded[0], encoded[1])
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        mean = model.pipeline.vae.encode(pixels).latent_dist.mean
    torch.testing.assert_close(encoded[:1], (mean - 0.0609) * 1.5305)
    torch.testing.assert_close(model.encode_images([image]), encoded[:1])  # kernels may differ by the batch's size


class TestPrecisions:
    """Each network is given numbers of its own precision, whatever that of the others."""

    X = torch.randn((1, 8, 8, 16), generator=torch.Generator().manual_seed(0))

    @pytest.fixture
    def mixed(self, model_folder):
        def build(transformer, autoencoder, encoders):
            model = load(model_folder, dtype=transformer)
            for part in (model.pipeline.text_encoder, model.pipeline.text_encoder_2):
                part.to(encoders)
            model.pipeline.vae.to(autoencoder)
            return model

        return build

    @pytest.mark.parametrize("transformer", ["fp32", "bf16"])
    @pytest.mark.parametrize("autoencoder", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("encoders", [torch.float32, torch.bfloat16])
    def test_what_each_is_given(self, mixed, transformer, autoencoder, encoders):
        model, given = mixed(transformer, autoencoder, encoders), {}

        def note(name):
            def hook(module, arguments, options):
                tensors = (*arguments, *options.values())
                given[name] = {one.dtype for one in tensors if isinstance(one, torch.Tensor)}

            return hook

        model.transformer.pos_embed.register_forward_pre_hook(note("patches"), with_kwargs=True)
        model.transformer.context_embedder.register_forward_pre_hook(note("tokens"), with_kwargs=True)
        model.pipeline.vae.decoder.register_forward_pre_hook(note("decoder"), with_kwargs=True)
        model.pipeline.vae.encoder.register_forward_pre_hook(note("encoder"), with_kwargs=True)
        with torch.no_grad():
            velocity = model.velocity(self.X, torch.tensor([0.7]), model.encode(["a sign"]), guidance=3.0)
        (image,) = model.decode(self.X)
        latents = model.encode_images([image])
        held = dtype_of(transformer)
        assert given == {"patches": {held}, "tokens": {held}, "decoder": {autoencoder}, "encoder": {autoencoder}}
        assert {velocity.dtype, latents.dtype} == {torch.float32}
        assert torch.isfinite(velocity).all()

    @pytest.mark.parametrize("transformer", ["fp32", "bf16"])
    def test_that_of_the_autoencoder_does_not_reach_the_transformer(self, mixed, transformer):
        velocities = []
        for autoencoder in (torch.float32, torch.bfloat16):
            model = mixed(transformer, autoencoder, torch.float32)
            with torch.no_grad():
                velocities.append(model.velocity(self.X, torch.tensor([0.7]), model.encode(["a sign"])))
        assert torch.equal(*velocities)

    def test_what_is_not_finite_is_told_with_the_precision_that_it_was_computed_in(self, mixed):
        model = mixed("fp32", torch.bfloat16, torch.float32)
        assert model.decode(self.X * math.nan) == ["the latents are not finite (NaN or infinity, computed in float32)"]
        model.pipeline.vae.decoder.conv_out.bias.data.fill_(math.inf)
        assert model.decode(self.X) == ["the pixels are not finite (NaN or infinity, computed in bfloat16)"]


def test_pixels_by_hand():
    # 127.5 x + 127.5: -1 -> 0; 0 -> 127.5, which rounds to the even 128; 0.5 -> 191.25; 1 -> 255; beyond is cut off
    pixels = torch.tensor([-1.5, -1.0, -0.996, 0.0, 0.5, 1.0, 7.0])
    assert to_uint8(pixels).tolist() == [0, 0, 1, 128, 191, 255, 255]
    assert to_uint8(pixels).dtype == torch.uint8
    every = torch.arange(256)
    assert torch.equal(to_uint8(every / 127.5 - 1), every.to(torch.uint8))
