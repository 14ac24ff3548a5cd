"""FLUX.2 dev, through diffusers: told by layers of Mistral Small 3 behind an instruction; guidance is an input."""

from dgpo.models.flux2 import Flux2
from dgpo.models.told_guidance import ToldGuidance
from dgpo.sections import Sampling


class Flux2Dev(Flux2, ToldGuidance):
    """The instruction, which the pipeline puts before every text, takes some of the text length."""

    pipeline_class = "Flux2Pipeline"
    summary = "FLUX.2 dev, whose network takes the guidance as an input"
    defaults = Sampling(sampler="euler", steps=50, guidance=4.0, text_length=512)
