"""Every family passes the checks of the kit on a tiny random folder in its published layout."""

import pytest

from dgpo.models.conformance import CHECKS, Subject
from dgpo.models.families import FAMILIES
from dgpo.models.pipeline_model import PipelineModel
from dgpo.models.sd3 import SD3
from tests.dgpo.models.tiny_folders import BUILDERS, save_tiny

# Tokens: enough for the template before a text, in a tokenizer that knows hardly more than letters.
TEXT_LENGTH = {
    "Flux2KleinPipeline": 64, "Flux2Pipeline": 240, "QwenImagePipeline": 300, "SanaPipeline": 40, "ZImagePipeline": 64,
}  # fmt: skip


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def subject(request, tmp_path_factory):
    folder = save_tiny(request.param, tmp_path_factory.mktemp("families") / request.param)
    return Subject.of(folder, TEXT_LENGTH.get(request.param, 24))


def test_every_family_has_a_tiny_folder():
    assert set(BUILDERS) == set(FAMILIES)


@pytest.mark.parametrize("name", CHECKS)
def test_it_conforms(subject, name):
    findings = list(CHECKS[name](subject))
    assert findings
    assert [str(finding) for finding in findings if not finding.holds] == []


def changed(family, name, change):
    """A method whose result is changed."""
    own = getattr(family, name)
    return {name: lambda self, *inputs, **options: change(own(self, *inputs, **options))}


def save_halves(self, folder, weights, metadata):
    PipelineModel.save_lora(self, folder, {name: tensor / 2 for name, tensor in weights.items()}, metadata)


FAULTS = {
    "sign": ("ZImagePipeline", "rollout", lambda family: changed(family, "predict", lambda v: -v)),
    "length of what is guided": ("QwenImagePipeline", "rollout", lambda _: {"combine": PipelineModel.combine}),
    "shift of times": ("FluxPipeline", "schedule", lambda _: {"times": vars(SD3)["times"]}),
    "scale of the latents": (
        "StableDiffusion3Pipeline", "autoencoder", lambda family: changed(family, "to_latents", lambda x: 1.1 * x),
    ),
    "statistics": ("Flux2KleinPipeline", "autoencoder", lambda family: changed(family, "to_latents", lambda x: x + 1)),
    "colours": ("FluxPipeline", "autoencoder", lambda family: changed(family, "to_pixels", lambda x: 0.9 * x)),
    "start": ("StableDiffusionXLPipeline", "rollout", lambda _: {"start": PipelineModel.start}),
    "empty text": ("SanaPipeline", "rollout", lambda _: {"encode_empty": PipelineModel.encode_empty}),
    "guidance that is an input": ("Flux2Pipeline", "rollout", lambda _: {"told": PipelineModel.told}),
    "adapters": ("ZImagePipeline", "lora", lambda _: {"save_lora": save_halves}),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_family_gets_wrong_is_found(fault, tmp_path, monkeypatch):
    name, check, wrong = FAULTS[fault]
    subject = Subject.of(save_tiny(name, tmp_path / "model"), TEXT_LENGTH.get(name, 24))
    for attribute, value in wrong(type(subject.model)).items():
        monkeypatch.setattr(type(subject.model), attribute, value)
    if fault == "empty text":
        vars(subject.model)["empty"] = subject.model.encode_empty()
    assert [finding for finding in CHECKS[check](subject) if not finding.holds]
