import pytest

from dgpo.models.families import FAMILIES, family_of, is_trainable
from dgpo.models.model import Model
from dgpo.models.sd3 import SD3
from rewards.errors import UsageError


@pytest.mark.parametrize("name", FAMILIES)
def test_every_row_leads_to_a_family(name):
    family = family_of("a folder", {"_class_name": name})
    assert issubclass(family, Model)
    assert family.lora_targets
    assert is_trainable({"_class_name": name})


def test_stable_diffusion_3_is_one():
    assert family_of("a folder", {"_class_name": "StableDiffusion3Pipeline"}) is SD3


def test_a_class_itself_may_stand_in_the_table(monkeypatch):
    monkeypatch.setitem(FAMILIES, "MyPipeline", SD3)
    assert family_of("a folder", {"_class_name": "MyPipeline"}) is SD3


@pytest.mark.parametrize("index", [{"_class_name": "PixArtSigmaPipeline"}, {}])
def test_others_are_refused_with_what_can_be_trained(index):
    assert not is_trainable(index)
    with pytest.raises(UsageError, match=r"m holds a .*, which cannot be trained; `dgpo models ls` lists"):
        family_of("m", index)
