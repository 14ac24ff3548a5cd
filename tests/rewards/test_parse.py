import json
import pickle
import re

import pytest

from rewards.errors import UsageError
from rewards.parse import make_spec, parse_judges, parse_rewards, spec_from_json
from rewards.spec import RewardSpec


def keys(*texts, **rest):
    return [spec.key for spec in parse_rewards(texts, **rest)]


def test_one_name_is_the_newest_version_with_defaults_and_weight_one():
    assert parse_rewards(["ocr"]) == [RewardSpec("ocr", 1, (), None, 1.0)]
    assert parse_rewards(["ocr@1"]) == parse_rewards(["ocr"])


def test_default_values_do_not_enter_the_key_and_others_are_sorted():
    assert keys("ocr[weights=v6,engine=rapidocr]") == ["ocr@1"]
    assert keys("ocr[ weights=v4 , detect=false ]") == ["ocr@1[detect=false,weights=v4]"]


def test_training_mix_of_two_variants():
    mix = parse_rewards(["ocr=0.8", "ocr@1[weights=v4]=0.2", "ocr-strict=-1e-1"])
    assert [(s.key, s.train_weight) for s in mix] == [
        ("ocr@1", 0.8),
        ("ocr@1[weights=v4]", 0.2),
        ("ocr-strict@1", -0.1),
    ]


def test_bundle_stands_for_its_members_and_passes_its_weight_on():
    specs = parse_rewards(["imagestats=0.5"])
    assert [s.key for s in specs] == ["imagestats.dark@1", "imagestats.edges@1", "imagestats.colours@1"]
    assert {s.train_weight for s in specs} == {0.5}


def test_settings_and_folders_reach_every_variant_of_their_reward_only():
    specs = parse_rewards(
        ["ocr", "ocr[weights=v4]", "ocr-strict"], sets=["ocr.engine=paddleocr"], weights=["ocr=models/my=ocr"]
    )
    assert [s.key for s in specs] == ["ocr@1[engine=paddleocr]", "ocr@1[engine=paddleocr,weights=v4]", "ocr-strict@1"]
    assert [s.weights for s in specs] == ["models/my=ocr", "models/my=ocr", None]


def test_json_and_pickle_give_the_same_spec_back():
    for spec in parse_rewards(["ocr[weights=v4]=0.2", "imagestats"], weights=["ocr=d"]):
        assert spec_from_json(json.loads(json.dumps(spec.to_json()))) == spec
        assert pickle.loads(pickle.dumps(spec)) == spec


def test_recorded_spec_is_checked_when_it_is_read_again():
    with pytest.raises(UsageError, match="no version 9"):
        spec_from_json({"name": "ocr", "version": 9})
    with pytest.raises(UsageError, match='no option "gone"'):
        spec_from_json({"name": "ocr", "version": 1, "options": {"gone": "1"}})


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["orc"], 'no reward "orc". Did you mean "ocr"'),
        (["imagestat"], 'Did you mean "imagestats"'),
        (["ocr@7"], "ocr has no version 7"),
        (["ocr@new"], "version behind @ is a whole number"),
        (["ocr[wieghts=v4]"], 'no option "wieghts". Did you mean "weights"'),
        (["ocr[weights=v5]"], 'cannot be "v5"'),
        (["ocr[weights]"], "written name=value"),
        (["ocr[weights=v4,weights=v6]"], "weights is given twice"),
        (["ocr[weights=v4"], "does not name a reward"),
        ([""], "does not name a reward"),
        (["http://localhost:8000"], "no address of a reward"),
        (["http://me:password@localhost:8000/ocr"], "never into the address"),
        (["ocr=much"], "weight behind = is a number"),
        (["ocr=nan"], "weight behind = is a number"),
        (["ocr="], "weight behind = is a number"),
        (["ocr=0.5", "ocr@1=0.5"], "ocr@1 is given twice"),
        (["imagestats", "imagestats.dark"], "imagestats.dark@1 is given twice"),
        (["imagestats.dark[size=1]"], "no option .* It has none"),
    ],
)
def test_wrong_words_are_refused_with_a_sentence(texts, message):
    with pytest.raises(UsageError, match=message):
        parse_rewards(texts)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ({"sets": ["ocr-strict.engine=paddleocr"]}, "ocr-strict, which is not among those given"),
        ({"weights": ["imagestats=d"]}, "not among those given"),
        ({"sets": ["orc.engine=paddleocr"]}, 'no reward "orc"'),
        ({"sets": ["engine=paddleocr"]}, "written NAME.OPTION=VALUE"),
        ({"sets": ["ocr.engine"]}, "written NAME.OPTION=VALUE"),
        ({"sets": ["ocr.motor=paddleocr"]}, 'no option "motor"'),
        ({"sets": ["ocr.weights=v6"]}, "weights of ocr is already given as v4"),
        ({"weights": ["ocr"]}, "written NAME=DIR"),
    ],
)
def test_settings_without_their_reward_or_form_are_refused(rest, message):
    with pytest.raises(UsageError, match=message):
        parse_rewards(["ocr[weights=v4]"], **rest)


def test_make_spec_sorts_and_drops_defaults():
    spec = make_spec("ocr", None, [("weights", "v4"), ("channels", "rgb"), ("detect", "false")], 2.0)
    assert spec == RewardSpec("ocr", 1, (("detect", "false"), ("weights", "v4")), None, 2.0)


def test_a_weights_folder_serves_all_that_read_the_same_files():
    graded, official = parse_rewards(["geneval", "geneval-official"], weights=["geneval=one"])
    assert (graded.weights, official.weights) == ("one", "one")
    graded, official = parse_rewards(["geneval", "geneval-official"], weights=["geneval=one", "geneval-official=two"])
    assert (graded.weights, official.weights) == ("one", "two")
    (official,) = parse_rewards(["geneval-official"], weights=["geneval=one"])
    assert official.weights == "one"
    with pytest.raises(UsageError, match="not among those given"):
        parse_rewards(["imagestats"], weights=["geneval=one"])


@pytest.mark.parametrize("text", ["ocr=0.5", "ocr=1", "imagestats=2", "ocr@1[weights=v4]=-1"])
def test_who_judges_takes_no_weight(text):
    name = text.rpartition("=")[0]
    with pytest.raises(UsageError, match=f"a weight is for a training mix. .* write {re.escape(name)}[.]$"):
        parse_judges([text])
    assert parse_judges([name]) == parse_rewards([name])
