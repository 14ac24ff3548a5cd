import json
import math
import shutil

import huggingface_hub.constants
import pytest
import torch

from dgpo.config import load_config
from dgpo.load import check_drawable, default_sampling, load_model, load_policy, load_trained
from dgpo.models.sd3 import SD3
from dgpo.sample import draw_images, evaluation_sampling
from rewards.errors import SetupError, UsageError
from tests.dgpo.training import PROMPTS, small_config, train
from tests.dgpo.variants import with_config


def load(name):
    return load_model(str(name), dtype="fp32", device=torch.device("cpu"), text_length=0)


def test_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match=r'no model "tinny".*Did you mean "tiny"\?'):
        load("tinny")


@pytest.mark.parametrize("name", ["./absent/model", "/absent/model", "a/b/c", "~/model"])
def test_path_that_is_not_there_is_not_looked_for_on_the_hub(name):
    with pytest.raises(UsageError, match="no model"):
        load(name)


def test_folder_without_an_index_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"model_index\.json"):
        load(tmp_path)


def test_pipeline_of_another_family_is_refused(tmp_path, model_folder):
    folder = shutil.copytree(model_folder, tmp_path / "other")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "PixArtSigmaPipeline"}))
    with pytest.raises(UsageError, match="PixArtSigmaPipeline, which cannot be trained; `dgpo models ls` lists"):
        load(folder)


def test_hub_out_of_reach_is_the_environments_fault(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SetupError, match=r"nobody/no-such-model could not be loaded.*local diffusers folder"):
        load("nobody/no-such-model")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_a_run_published_is_loaded(model_folder, tmp_path, method):
    """The images of the loaded model are those of the average that training ended with."""
    changes = {"steps": 2, "training.method": method, "checkpoint.every": 1, "optimizer.learning_rate": 1e-2}
    config = small_config(model_folder, changes)
    trainer = train(config, tmp_path)
    cells = [(PROMPTS[0], 0), (PROMPTS[1], 1)]
    expected = draw_images(trainer.policy, cells, config.sampling, who="average")
    policy, loaded, path = load_trained(tmp_path, None, torch.device("cpu"))
    assert loaded == config
    assert path.name == "step-000002"
    assert draw_images(policy, cells, config.sampling) == expected
    assert draw_images(load_trained(tmp_path, 1, torch.device("cpu"))[0], cells, config.sampling) != expected


def bytes_of(image):
    assert not isinstance(image, str)
    return image.tobytes()


def test_images_depend_on_prompt_and_seed_alone(make_policy):
    policy, config = make_policy()
    cells = [(prompt, seed) for prompt in PROMPTS[:3] for seed in (0, 1)]
    together = draw_images(policy, cells, config.sampling)
    backwards = draw_images(policy, cells[::-1], config.sampling, micro_batch=4)
    assert len({bytes_of(image) for image in together}) == len(cells)
    for one, other in zip(together, backwards[::-1], strict=True):
        pixels = (torch.frombuffer(bytearray(bytes_of(image)), dtype=torch.uint8).int() for image in (one, other))
        assert (next(pixels) - next(pixels)).abs().max() <= 1


@pytest.mark.parametrize(("model", "recipe"), [("tiny", "tiny"), (None, "ocr")])
def test_a_base_model_is_drawn_from_as_trainings_of_it_are_evaluated(model_folder, model, recipe):
    """Else the base and what was trained would differ by their samplers too."""
    config = load_config(recipe)
    assert default_sampling(model or str(model_folder)) == evaluation_sampling(config.sampling, config.evaluation)


class TestDrawable:
    """What a model cannot draw is known from its configs, before anything large is read."""

    @pytest.fixture(autouse=True)
    def nothing_is_loaded(self, monkeypatch):
        monkeypatch.setattr(SD3, "load", lambda *a, **b: pytest.fail("was loaded"))

    @pytest.mark.parametrize("changes", [{"sampling.height": 36}, {"sampling.width": 7}, {"sampling.height": 256}])
    def test_size(self, model_folder, changes):
        config = small_config(model_folder, changes)
        with pytest.raises(UsageError, match=r"this model draws multiples of 8 from 8 to \d+ pixels; take "):
            load_policy(config.model, config, torch.device("cpu"))

    def test_scheduler(self, model_folder, tmp_path):
        folder = with_config(model_folder, tmp_path / "m", "scheduler", stochastic_sampling=True)
        config = small_config(folder)
        with pytest.raises(UsageError, match="sets stochastic_sampling to True, which the sampler dpm"):
            load_policy(config.model, config, torch.device("cpu"))

    def test_hub_model_is_left_for_later_where_nothing_may_be_fetched(self, model_folder):
        sampling = small_config(model_folder, {"sampling.height": 36}).sampling
        assert check_drawable("nobody/no-such-model", sampling, fetch=False) == []


def test_dynamic_shift_draws_what_the_shift_for_that_size_draws(model_folder, tmp_path):
    """32 patches: mu = 0.5 + 0.65 (32 - 256) / 3840, a constant shift of e^mu for this size and no other."""
    mu = 0.5 + 0.65 * (32 - 256) / 3840
    dynamic = with_config(model_folder, tmp_path / "dynamic", "scheduler", use_dynamic_shifting=True)
    constant = with_config(model_folder, tmp_path / "constant", "scheduler", shift=math.exp(mu))
    drawn = []
    for folder in (dynamic, constant, model_folder):
        config = small_config(folder, {"sampling.sampler": "dpm++"})
        policy = load_policy(config.model, config, torch.device("cpu"))
        drawn.append(draw_images(policy, [(PROMPTS[0], 0)], config.sampling))
    assert drawn[0] == drawn[1] != drawn[2]
