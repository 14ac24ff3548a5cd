"""Words behind --set and its like."""

import pytest

from cli.options import parse_sampling, split_setting
from rewards.errors import UsageError


def test_setting_is_split_at_the_first_equals_sign():
    assert split_setting("a.b = c=d", "--x", "N=V") == ("a.b", "c=d")


@pytest.mark.parametrize("text", ["a", "a=", "=1", " = "])
def test_no_setting_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match="--margin takes ocr=1; got"):
        split_setting(text, "--margin", "ocr=1")


def test_sampling_values_are_read_as_yaml():
    texts = ["sampling.steps=20", "sampling.guidance=1.5", "sampling.sampler=euler", "sampling.height=null"]
    assert parse_sampling(texts) == {"steps": 20, "guidance": 1.5, "sampler": "euler", "height": None}
    assert parse_sampling(None) == {}


@pytest.mark.parametrize("text", ["steps=20", "optimizer.learning_rate=1", "sampling=3"])
def test_other_settings_are_refused(text):
    with pytest.raises(UsageError, match="Only settings of the sampler"):
        parse_sampling([text])
