import json
import shutil

import huggingface_hub.constants
import pytest
import torch

from dgpo.load import load_model, load_trained
from dgpo.sample import draw_images
from rewards.errors import SetupError, UsageError
from tests.dgpo.training import PROMPTS, small_config, train


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
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "FluxPipeline"}))
    with pytest.raises(UsageError, match=r"FluxPipeline.*Stable Diffusion 3"):
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


def test_images_depend_on_prompt_and_seed_alone(make_policy):
    policy, config = make_policy()
    cells = [(prompt, seed) for prompt in PROMPTS[:3] for seed in (0, 1)]
    together = draw_images(policy, cells, config.sampling)
    backwards = draw_images(policy, cells[::-1], config.sampling, micro_batch=4)
    assert len({image.tobytes() for image in together}) == len(cells)
    for one, other in zip(together, backwards[::-1], strict=True):
        pixels = (torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).int() for image in (one, other))
        assert (next(pixels) - next(pixels)).abs().max() <= 1
