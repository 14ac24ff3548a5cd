"""Numbers that do not exist are no colours: such an image is a failed one, and nothing is learned from it."""

import math

import pytest
import torch
from PIL import Image

from dgpo import rollout
from dgpo.load import load_policy
from dgpo.models.sd3 import SD3
from dgpo.models.tiny.tokenizer import build_tokenizer
from dgpo.sample import draw_images
from dgpo.supervision.samples import draw_grid
from rewards.errors import SetupError
from tests.dgpo.training import PROMPTS, digest, small_config, train
from tests.dgpo.variants import with_broken_decoder, with_number

CPU = torch.device("cpu")
BLUE = 1  # the place of the only prompt with that word
SPOILED = 3
CHANGES = {"steps": 3, "dgpo.kl": 0.1, "dgpo.clip": 0.5, "optimizer.micro_batch": 3}


@pytest.fixture(scope="module")
def colour_blind(model_folder, tmp_path_factory):
    """A model that knows no blue: its images of a blue sign have latents of NaN, all others are sound."""
    row = build_tokenizer()("blue").input_ids[1]
    file = "text_encoder/model.safetensors"
    return with_number(
        model_folder, tmp_path_factory.mktemp("m") / "blind", file, "token_embedding.weight", math.nan, rows=row
    )


def policy_of(folder, **changes):
    config = small_config(folder, changes)
    return load_policy(config.model, config, CPU), config


def test_a_prompts_latents_fail_alone_and_change_no_neighbour(colour_blind, model_folder):
    policy, config = policy_of(colour_blind)
    sound, _ = policy_of(model_folder)
    cells = [(prompt, 0) for prompt in PROMPTS[:4]]
    drawn, expected = (draw_images(one, cells, config.sampling) for one in (policy, sound))
    assert drawn.pop(BLUE) == "the latents are not finite (NaN or infinity, computed in float32)"
    expected.pop(BLUE)
    assert drawn == expected


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_decoder_without_colours_makes_no_image(model_folder, tmp_path, number):
    policy, config = policy_of(with_broken_decoder(model_folder, tmp_path / "broken", number))
    drawn = draw_images(policy, [(PROMPTS[0], 0), (PROMPTS[1], 0)], config.sampling)
    assert drawn == ["the pixels are not finite (NaN or infinity, computed in float32)"] * 2


def test_half_precision_that_overflows_is_told_by_name(model_folder):
    """70,000 is beyond the largest number of fp16, 65,504, and an ordinary one of fp32, where it is white."""
    policy, _ = policy_of(model_folder)
    assert isinstance(policy.model, SD3)
    vae, latents = policy.model.pipeline.vae, torch.zeros(1, 8, 8, 16)
    vae.decoder.conv_out.bias.data.fill_(70_000.0)
    (white,) = policy.model.decode(latents)
    assert isinstance(white, Image.Image)
    assert white.getextrema() == ((255, 255),) * 3
    vae.half()
    assert policy.model.decode(latents) == ["the pixels are not finite (NaN or infinity, computed in float16)"]


@pytest.fixture
def spoiled(monkeypatch):
    """The noise of one image of the second iteration is NaN."""
    noise = rollout.seeded_noise

    def spoil(shape, *identity):
        kind, _, step, _, image = identity
        return noise(shape, *identity) * (math.nan if (kind, step, image) == ("rollout", 1, SPOILED) else 1)

    monkeypatch.setattr(rollout, "seeded_noise", spoil)


class TestTraining:
    def test_a_failed_image_is_masked_and_counted(self, model_folder, tmp_path, spoiled):
        judged = []

        def value(image, prompt):
            judged.append(image)
            return float(len(judged))

        trainer = train(small_config(model_folder, {**CHANGES, "max_failed": 1}), tmp_path, value=value)
        lines = trainer.run.read_metrics()
        assert [line["failed"] for line in lines] == [0, 1, 0]
        assert len(judged) == 8 + 7 + 8
        # Images 9 to 15 in order: of the first group 9, 10, 11, of the second 12, 13, 14, 15.
        assert lines[1]["reward"] == 12.0
        assert all(math.isfinite(line[name]) for line in lines for name in ("loss", "kl", "gradient_norm", "spread"))
        assert lines[1]["gradient_norm"] > 0
        assert all(torch.isfinite(p).all() for p in trainer.policy.parameters)

    def test_beyond_max_failed_it_stops_saved_however_often_it_is_met(self, model_folder, tmp_path, spoiled):
        config = small_config(model_folder, CHANGES)
        for _ in range(2):
            with pytest.raises(SetupError) as told:
                train(config, tmp_path)
            assert str(told.value).startswith(
                "1 of 8 images could not be scored in iteration 2, and max_failed is 0. The first reason: the latents "
                "are not finite (NaN or infinity, computed in float32). The run is saved;"
            )
            assert "--max-failed" in str(told.value)
            assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == ["step-000001"]
        train(small_config(model_folder, {**CHANGES, "max_failed": 1}), tmp_path)
        train(small_config(model_folder, {**CHANGES, "max_failed": 1}), tmp_path / "at once")
        assert digest(tmp_path, 3) == digest(tmp_path / "at once", 3)

    def test_nothing_to_score_is_nothing_to_learn(self, model_folder, tmp_path):
        """A model that makes no image at all: one iteration is allowed to fail, and moves nothing."""
        broken = with_broken_decoder(model_folder, tmp_path / "broken")
        config = small_config(broken, {"steps": 1, "max_failed": 8, "samples.every": 1})
        trainer = train(config, tmp_path / "run", value=lambda image, prompt: pytest.fail("was scored"))
        (line,) = trainer.run.read_metrics()
        assert (line["failed"], line["reward"], line["dead_groups"], line["gradient_norm"]) == (8, None, 1.0, 0.0)
        assert (tmp_path / "run" / "samples" / "step-000000.png").is_file()


def test_a_cross_stands_for_an_image_that_is_not_there(tmp_path):
    white = Image.new("RGB", (96, 96), "white")
    draw_grid([white, "no image"], ["two"], 2, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        halves = [grid.crop((left, 24, left + 102, 120)) for left in (0, 102)]
    assert [(255, 0, 0) in {colour for _, colour in half.getcolors() or ()} for half in halves] == [False, True]
    draw_grid(["no image"], ["one"], 1, tmp_path / "alone.png")
    assert (tmp_path / "alone.png").is_file()
