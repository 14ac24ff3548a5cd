"""Pipelines of another family than the one we train, on a small Stable Diffusion 1 with random weights."""

import json
import math
import shutil
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler
from PIL import Image

from dgpo.load import default_sampling, load_drawer, load_model
from dgpo.models import pipeline as module
from dgpo.models.pipeline import TextToImage, find_family, settle_arguments
from dgpo.models.sd3 import SD3
from dgpo.noise import seeded_generator, seeded_noise
from rewards.errors import SetupError, UsageError
from rewards.prompt import Prompt
from tests.dgpo.qwen import save_qwen
from tests.dgpo.unet import STEPS, save_unet

CPU = torch.device("cpu")
SIZES = {"steps": 3, "guidance": 3.0, "height": 32, "width": 64}
CELLS = [(Prompt(f'a {colour} sign that says "cat"'), seed) for colour in ("red", "blue") for seed in (0, 1)]


@pytest.fixture(scope="session")
def unet_folder(tmp_path_factory):
    return save_unet(tmp_path_factory.mktemp("models") / "unet")


@pytest.fixture
def drawer(unet_folder):
    return TextToImage.from_folder(unet_folder, SIZES, dtype=torch.float32, device=CPU)


def started_from(drawer, monkeypatch):
    """A list that fills with the starting noise of what `drawer` draws."""
    seen = []
    prepare = drawer.pipeline.prepare_latents

    def watch(*arguments, **named):
        latents = prepare(*arguments, **named)
        seen.extend(latents.float() / drawer.pipeline.scheduler.init_noise_sigma)
        return latents

    monkeypatch.setattr(drawer.pipeline, "prepare_latents", watch)
    return seen


def grey_levels(some, others):
    return max(np.abs(np.asarray(a, int) - np.asarray(b, int)).max() for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize("scheduler", [DDIMScheduler, EulerAncestralDiscreteScheduler])
def test_four_at_once_are_four_alone(drawer, scheduler):
    """With a stochastic sampler too, whose further noise comes from each image's own generator."""
    drawer.pipeline.scheduler = scheduler(**STEPS)
    together = drawer.draw(CELLS)
    alone = [drawer.draw([cell])[0] for cell in CELLS]
    threes = drawer.draw(CELLS[::-1], micro_batch=3)[::-1]
    assert [image.size for image in together] == [(64, 32)] * 4
    assert grey_levels(together, alone) <= 1
    assert grey_levels(together, threes) <= 1
    assert min(grey_levels([together[0]], [other]) for other in together[1:]) > 5


def test_every_family_starts_from_the_noise_of_prompt_and_seed(drawer, model_folder, monkeypatch):
    seen = started_from(drawer, monkeypatch)
    drawer.draw(CELLS, micro_batch=3)
    shape = load_model(str(model_folder), dtype="fp32", device=CPU, text_length=0).latent_shape(32, 64)
    for latents, (prompt, seed) in zip(seen, CELLS, strict=True):
        assert torch.equal(latents, seeded_noise(shape, "image", prompt.id, seed))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_rounds_the_same_noise(drawer, monkeypatch, dtype):
    drawer.pipeline.to(dtype)
    seen = started_from(drawer, monkeypatch)
    drawer.draw(CELLS[:1])
    prompt, seed = CELLS[0]
    assert torch.equal(seen[0], seeded_noise((8, 8, 16), "image", prompt.id, seed).to(dtype).float())


def test_the_record_names_sampler_and_settings(drawer, unet_folder):
    told = json.loads(json.dumps(drawer.sampler))
    assert {name: told[name] for name in SIZES} == SIZES
    assert (told["pipeline"], told["scheduler"], told["dtype"]) == (
        "StableDiffusionPipeline",
        "DDIMScheduler",
        "fp32",
    )
    assert told["eta"] == 0.0
    plain = TextToImage.from_folder(unet_folder, {}, dtype=torch.float32, device=CPU).sampler
    assert (plain["steps"], plain["guidance"], plain["height"], plain["width"]) == (50, 7.5, 64, 64)


def test_settings_reach_the_pipeline(unet_folder, drawer):
    other = TextToImage.from_folder(
        unet_folder, {**SIZES, "negative_prompt": "a blue sign"}, dtype=torch.float32, device=CPU
    )
    assert other.sampler["negative_prompt"] == "a blue sign"
    assert grey_levels(other.draw(CELLS), drawer.draw(CELLS)) > 0
    more = TextToImage.from_folder(unet_folder, {**SIZES, "steps": 6}, dtype=torch.float32, device=CPU)
    assert grey_levels(more.draw(CELLS[:1]), drawer.draw(CELLS[:1])) > 0


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"stepps": 3}, r'no setting "sampling.stepps".*"steps"'),
        ({"sampler": "euler"}, "no setting"),
        ({"generator": 1}, "no setting"),
        ({"latents": 1}, "no setting"),
        ({"steps": 0}, "whole number from 1 up"),
        ({"steps": True}, "whole number from 1 up"),
        ({"width": 3.5}, "whole number from 1 up"),
        ({"guidance": "high"}, "takes a number"),
        ({"guidance": float("inf")}, "takes a number"),
        ({"eta": "none"}, "takes a number"),
        ({"negative_prompt": 3}, "takes a text"),
    ],
)
def test_settings_that_the_pipeline_does_not_take_are_refused_before_loading(unet_folder, settings, hint, monkeypatch):
    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "from_pretrained", lambda *a, **b: pytest.fail("loaded"))
    with pytest.raises(UsageError, match=hint):
        TextToImage.from_folder(unet_folder, settings, dtype=torch.float32, device=CPU)


def test_guidance_is_what_guides_the_family():
    """Qwen-Image's `guidance_scale` is for distilled checkpoints; without a negative prompt it would draw unguided."""
    arguments = settle_arguments(diffusers.QwenImagePipeline, {"guidance": 9.0})
    assert (arguments["true_cfg_scale"], arguments["negative_prompt"]) == (9.0, " ")
    assert "guidance_scale" not in arguments
    assert settle_arguments(diffusers.QwenImagePipeline, {})["negative_prompt"] == " "
    assert "negative_prompt" not in settle_arguments(diffusers.QwenImagePipeline, {"guidance": 1.0})
    flux = settle_arguments(diffusers.FluxPipeline, {"guidance": 9.0})
    assert (flux["guidance_scale"], flux["true_cfg_scale"], "negative_prompt" in flux) == (9.0, 1.0, False)
    assert settle_arguments(diffusers.FluxPipeline, {"true_cfg_scale": 2.0})["negative_prompt"] == " "


def test_guidance_changes_what_qwen_image_draws(tmp_path):
    folder = save_qwen(tmp_path / "qwen")

    def draw(**settings):
        settings = {"steps": 2, "height": 32, "width": 32, **settings}
        drawer = TextToImage.from_folder(folder, settings, dtype=torch.float32, device=CPU)
        return drawer.draw(CELLS[:1])

    plain, default = draw(guidance=1.0), draw()
    assert grey_levels(plain, draw(guidance=9.0)) > 5
    assert grey_levels(default, draw(guidance=4.0, negative_prompt=" ")) == 0
    assert grey_levels(default, draw(negative_prompt="a blue sign")) > 0


def renamed(folder, tmp_path, **changes):
    copy = shutil.copytree(folder, tmp_path / "renamed")
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | changes))
    return copy


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("StableDiffusionImg2ImgPipeline", "from texts alone"),
        ("StableDiffusionControlNetInpaintPipeline", "from texts alone"),
        ("StableVideoDiffusionPipeline", "from texts alone"),
        ("WanPipeline", "from texts alone"),
        ("DDPMPipeline", "from texts alone"),
        ("UNet2DConditionModel", "no pipeline of diffusers"),
        ("MyPipeline", "no pipeline of diffusers"),
        (["my_code", "MyPipeline"], "code that comes with a model is not run"),
    ],
)
def test_what_draws_no_images_from_texts_is_refused(unet_folder, tmp_path, name, hint):
    with pytest.raises(UsageError, match=hint):
        find_family(renamed(unet_folder, tmp_path, _class_name=name))


@pytest.mark.parametrize("name", ["StableDiffusionXLPipeline", "FluxPipeline", "SanaPipeline", "PixArtSigmaPipeline"])
def test_the_usual_families_are_taken(unet_folder, tmp_path, name):
    assert find_family(renamed(unet_folder, tmp_path, _class_name=name)).__name__ == name


def test_code_in_a_component_is_not_run(unet_folder, tmp_path):
    folder = renamed(unet_folder, tmp_path, unet=["my_unet", "UNet2DConditionModel"])
    (folder / "unet" / "my_unet.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(SetupError, match="without code of their own"):
        TextToImage.from_folder(folder, SIZES, dtype=torch.float32, device=CPU)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_are_not_read(unet_folder, tmp_path):
    folder = shutil.copytree(unet_folder, tmp_path / "pickled")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(SetupError, match="safetensors"):
        TextToImage.from_folder(folder, SIZES, dtype=torch.float32, device=CPU)


def test_blackened_images_are_told_in_words(drawer, monkeypatch):
    """Stable Diffusion's checker gives a black image in place of one it takes for unsafe."""

    def checked(image, device, dtype):
        return image, [True, False]

    monkeypatch.setattr(drawer.pipeline, "run_safety_checker", checked)
    first, second = drawer.draw(CELLS[:2])
    assert first == "its own safety checker found something in it"
    assert second.size == (64, 32)


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_pixels_that_are_not_finite_make_no_image(drawer, number):
    drawer.pipeline.vae.decoder.conv_out.bias.data.fill_(number)
    reason = "the pixels are not finite (NaN or infinity, computed in float32)"
    assert drawer.draw(CELLS[:2]) == [reason, reason]


def test_a_pipeline_that_does_not_show_its_pixels_is_refused(drawer, monkeypatch):
    class Hidden(diffusers.StableDiffusionPipeline):
        def __call__(self, prompt, generator=None, output_type="pil", **settings):
            return SimpleNamespace(images=[Image.new("RGB", (64, 32)) for _ in prompt])

    monkeypatch.setattr(drawer.pipeline, "__class__", Hidden)
    with pytest.raises(SetupError, match=r"Hidden does not show its pixels before they are colours.*black"):
        drawer.draw(CELLS[:2])


def test_finite_images_are_those_of_the_pipeline_itself_and_a_neighbour_that_fails_changes_none(drawer, monkeypatch):
    generators = [seeded_generator("image", prompt.id, seed) for prompt, seed in CELLS]
    texts = [prompt.text for prompt, _ in CELLS]
    plain = drawer.pipeline(prompt=texts, generator=generators, **drawer.arguments).images
    assert drawer.draw(CELLS) == plain
    decode = drawer.pipeline.vae.decode

    def spoil(*arguments, **named):
        pixels = decode(*arguments, **named)[0]
        pixels[2, :, 5, 7] = math.nan
        return (pixels,)

    monkeypatch.setattr(drawer.pipeline.vae, "decode", spoil)
    drawn = drawer.draw(CELLS)
    assert "not finite" in drawn[2]
    assert [drawn[place] for place in (0, 1, 3)] == [plain[place] for place in (0, 1, 3)]


def test_a_size_left_to_the_pipeline_is_recorded_as_it_is_drawn(unet_folder):
    """Diffusers' Stable Diffusion takes its own size unless both sides are given."""
    for settings, size in (({}, (64, 64)), ({"height": 32, "width": 64}, (64, 32))):
        drawer = TextToImage.from_folder(unet_folder, {"steps": 1, **settings}, dtype=torch.float32, device=CPU)
        assert "check_inputs" not in vars(drawer.pipeline)
        assert (drawer.sampler["width"], drawer.sampler["height"]) == size
        (image,) = drawer.draw(CELLS[:1])
        assert isinstance(image, Image.Image)
        assert image.size == size


def test_a_size_that_the_pipeline_refuses_is_wrong_use(unet_folder):
    other = TextToImage.from_folder(unet_folder, {**SIZES, "height": 36}, dtype=torch.float32, device=CPU)
    with pytest.raises(UsageError, match=r"StableDiffusionPipeline cannot draw with these settings: .*divisible by"):
        other.draw(CELLS[:1])


def test_a_size_that_the_pipeline_rounds_is_refused_with_the_one_it_draws(drawer):
    drawer.size["height"] = 33
    with pytest.raises(UsageError, match=r"draws 32 pixels where sampling\.height is 33.*--set sampling\.height=32"):
        drawer._refuse_other_size(Image.new("RGB", (64, 32)))


def test_the_family_that_is_trained_has_its_own_sampler(model_folder, unet_folder):
    assert default_sampling(str(model_folder)) == SD3.defaults
    assert default_sampling(str(unet_folder)) is None
    assert isinstance(load_drawer(str(unet_folder), SIZES, CPU, precision="fp32"), module.TextToImage)
    with pytest.raises(UsageError, match=r"StableDiffusionPipeline.*cannot be trained.*dgpo eval"):
        load_model(str(unet_folder), dtype="fp32", device=CPU, text_length=0)
