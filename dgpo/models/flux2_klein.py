"""FLUX.2 klein, through diffusers: told by layers of Qwen3, guided classifier-free or not at all."""

from dgpo.models.flux2 import Flux2
from dgpo.sections import Sampling


class Flux2Klein(Flux2):
    """A model that says of itself that it is distilled takes no guidance."""

    pipeline_class = "Flux2KleinPipeline"
    summary = "FLUX.2 klein; classifier-free guidance, none where it is distilled"
    recipes = "klein-"
    config_files = (*Flux2.config_files, "model_index.json")
    defaults = Sampling(sampler="euler", steps=50, guidance=4.0, text_length=512)
    distilled = ("model_index.json", "is_distilled", True)
    few_steps = {"steps": 4, "guidance": 1.0}  # noqa: RUF012
