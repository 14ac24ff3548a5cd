"""Every recipe for a published model makes an iteration, at its own settings, on a tiny random folder of the family."""

import pytest

from dgpo.config import find_recipe, load_config, recipe_names
from dgpo.plan import planned_passes
from tests.dgpo.models.tiny_folders import save_tiny
from tests.dgpo.run_files import steps
from tests.dgpo.training import train

PUBLISHED = [name for name in recipe_names() if not name.endswith("tiny")]
# What a laptop can do: fewer and smaller images, and a reward that looks at pixels.
SMALL = {
    "steps": 1, "groups": 2, "group_size": 4, "workers": 0, "rewards": ["imagestats.edges"], "training.dtype": "fp32",
    "sampling.height": 32, "sampling.width": 64, "evaluation.every": 0, "samples.every": 0, "watch.canaries": 0,
}  # fmt: skip


# Every day one of each algorithm and kind; a task's recipes differ in a number or two.
OTHERS = {
    "black-forest-labs/FLUX.1": "FluxPipeline",
    "black-forest-labs/FLUX.2": "Flux2KleinPipeline",
    "Qwen/Qwen-Image": "QwenImagePipeline",
    "Tongyi-MAI/Z-Image": "ZImagePipeline",
}
FREQUENT = {"flux-ocr", "ocr", "ocr-ema-ref", "geneval-no-cfg", "flow-grpo-ocr", "nft-ocr", "awm-ocr"}
ONCE = [pytest.param(name, id=name, marks=() if name in FREQUENT else pytest.mark.slow) for name in PUBLISHED]


@pytest.fixture(scope="module")
def folder_of(model_folder, tmp_path_factory):
    """A tiny model of the family that a recipe is for."""
    made = {"StableDiffusion3Pipeline": model_folder}

    def find(name):
        model = load_config(name).model
        pipeline = next((kind for start, kind in OTHERS.items() if model.startswith(start)), "StableDiffusion3Pipeline")
        if pipeline not in made:
            made[pipeline] = save_tiny(pipeline, tmp_path_factory.mktemp("families") / pipeline)
        return made[pipeline]

    return find


@pytest.mark.parametrize("name", ONCE)
def test_it_makes_an_iteration_of_the_passes_that_it_promises(name, folder_of, tmp_path):
    config = load_config(name, {"model": str(folder_of(name)), **SMALL})
    trained = train(config, tmp_path)
    (line,) = steps(tmp_path)
    assert line["passes"] == pytest.approx(planned_passes(config, trained.policy.model.passes))
    assert trained.progress.updates >= 1


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_is_evaluated_on_held_out_prompts_and_says_how_far_it_was_verified(name):
    config, head = load_config(name), find_recipe(name).read_text().split("\nmodel:")[0]
    assert config.evaluation.on
    assert "not run" in " ".join(head.lower().split()) or "not yet run by us" in " ".join(head.lower().split())
    assert "dgpo train --re" in head
