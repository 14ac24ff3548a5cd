import pytest

from dgpo.config import RECIPES, Config, check_config, find_recipe, load_config, recipe_names, setting_names
from dgpo.reward_choice import choose_rewards
from dgpo.settings import dump_settings
from rewards.errors import UsageError


def refusal(values):
    with pytest.raises(UsageError) as refused:
        check_config(values, "FILE")
    return str(refused.value)


def test_unknown_key_gets_the_nearest_name():
    said = refusal({"optimizer": {"learning_rat": 1e-3}})
    assert '"optimizer.learning_rat"' in said
    assert 'Did you mean "optimizer.learning_rate"?' in said
    assert "FILE" in said


def test_every_wrong_setting_is_named_at_once():
    said = refusal({"grops": 3, "sampling": {"guidanse": 2}})
    assert '"grops"' in said
    assert '"groups"' in said
    assert '"sampling.guidance"' in said


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"seed": 2**64}, "seed: Input should be less than"),
        ({"steps": True}, "steps: Input should be a whole number (got True"),
        ({"steps": 10**30}, "steps: Input should be less than or equal to 1000000000"),
        ({"steps": "010"}, "steps: Input should be a whole number (got '010'"),
        ({"prompts": 3}, "prompts: Input should be text"),
        ({"dgpo": {"one_update": "no"}}, "dgpo.one_update: Input should be true or false"),
        ({"sampling": {"guidance": float("inf")}}, "sampling.guidance: Input should be a finite number"),
        ({"dgpo": {"kl": float("nan")}}, "dgpo.kl: Input should be a finite number"),
        ({"optimizer": {"learning_rate": float("inf")}}, "optimizer.learning_rate: Input should be a finite number"),
        ({"optimizer": {"betas": [1.0, 0.9]}}, "optimizer.betas.0: Input should be less than 1"),
        ({"optimizer": {"betas": [0.9, -0.1]}}, "optimizer.betas.1: Input should be greater than or equal to 0"),
        ({"rewards": "ocr"}, "rewards: Input should be a list"),
        ({1: 2}, "1: Keys should be strings"),
        ({"group_size": 1}, "a group teaches by comparing"),
        ({"steps": 0}, "steps: Input should be greater than or equal to 1 (got 0"),
        ({"sampling": {"guidance": 0.5}}, "sampling.guidance"),
        ({"dgpo": {"clip": 0}}, "dgpo.clip"),
        ({"dgpo": {"min_sigma": 1.0}}, "dgpo.min_sigma"),
        ({"training": {"method": "dora"}}, "'lora' or 'full'"),
        ({"sampling": 3}, "sampling"),
        ({"averages": {"evaluation_decay": 1.0}}, "averages.evaluation_decay"),
    ],
)
def test_impossible_value_is_refused_with_a_sentence(values, said):
    assert said in refusal(values)


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: somewhere\nsampling: {steps: 7}\n")
    return path


def test_overrides_and_sets_change_a_recipe(recipe):
    config = load_config(
        recipe, {"steps": 3, "sampling.height": 32}, ["optimizer.learning_rate=1e-4", "dgpo.clip=null"]
    )
    assert (config.model, config.steps, config.sampling.steps, config.sampling.height) == ("somewhere", 3, 7, 32)
    assert config.optimizer.learning_rate == 1e-4
    assert config.learning.clip is None
    assert config.groups == Config().groups


def test_last_set_wins_and_lists_are_yaml(recipe):
    config = load_config(recipe, {}, ["seed=1", "seed=2", "rewards=[ocr, 'imagestats.edges=0.5']"])
    assert config.seed == 2
    assert config.rewards == ("ocr", "imagestats.edges=0.5")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps", "NAME=VALUE"),
        ("steps.a=1", "not a section"),
        ("steps=many", "steps"),
        ("stepz=1", 'Did you mean "steps"'),
        ("rewards=[ocr", r"--set rewards=\[ocr: the value is not valid YAML.*line 1"),
        ("groups=0", r"groups: .*\(got 0, by --set groups=0\)"),
        ("sampling={guidance: 0}", r"sampling\.guidance: .*by --set sampling=\{guidance: 0\}"),
        ("=1", "There is no setting"),
    ],
)
def test_bad_set_is_refused(recipe, text, said):
    recipe.write_text(recipe.read_text() + "steps: 5\n")
    with pytest.raises(UsageError, match=said):
        load_config(recipe, {}, [text])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps: 5\ngroups: 0\n", r"groups: .*\(got 0, .*mine\.yaml, line 2\)"),
        ("sampling:\n  steps: 5\n  guidance: 0\n", r"sampling\.guidance: .*mine\.yaml, line 3\)"),
        ("optimizer:\n  learning_rat: 1\n", r'"optimizer\.learning_rat" \(.*mine\.yaml, line 2\)'),
        ("optimizer:\n  betas: [1, 0.9]\n", r"optimizer\.betas\.0: .*mine\.yaml, line 2\)"),
    ],
)
def test_wrong_setting_is_told_with_the_line_of_the_recipe(recipe, text, said):
    recipe.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_config(recipe, {"seed": 3})


def test_wrong_option_is_told_apart_from_the_recipe(recipe):
    with pytest.raises(UsageError, match=r"seed: .*\(got -3, on the command line\)"):
        load_config(recipe, {"seed": -3})


def test_folder_is_no_recipe_and_a_run_names_its_own(tmp_path):
    with pytest.raises(UsageError, match="is a folder, and a recipe is a YAML file"):
        find_recipe(tmp_path)
    (tmp_path / "config.yaml").write_text("steps: 3\n")
    with pytest.raises(UsageError, match=r"is a run folder.*config\.yaml"):
        find_recipe(tmp_path)
    assert load_config(tmp_path / "config.yaml").steps == 3


def test_bad_recipe_file_is_refused(tmp_path):
    path = tmp_path / "bad.yaml"
    with pytest.raises(UsageError, match="no recipe file"):
        load_config(path)
    path.write_text("a: [1")
    with pytest.raises(UsageError, match="not valid YAML"):
        load_config(path)
    path.write_text("- a\n- b\n")
    with pytest.raises(UsageError, match="name: value"):
        load_config(path)


def test_unknown_recipe_gets_the_nearest_name():
    with pytest.raises(UsageError, match='Did you mean "tiny"'):
        find_recipe("tinny")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads_and_comes_back_from_yaml(name, tmp_path):
    config = load_config(name)
    assert config.rewards
    path = tmp_path / "config.yaml"
    path.write_text(dump_settings(config.model_dump(mode="json")))
    assert load_config(path) == config
    assert (RECIPES / f"{name}.yaml").read_text().startswith("#")


def test_every_setting_has_a_name_and_a_sentence():
    names = setting_names()
    assert {"model", "dgpo.beta", "checkpoint.every", "dgpo.old_decay"} <= set(names)
    assert len(names) == len(set(names))


def test_reward_of_ones_own_is_kept_with_its_whole_path(monkeypatch, tmp_path):
    """The run goes on, and is evaluated, from other working directories too."""
    monkeypatch.chdir(tmp_path)
    config = check_config({"rewards": ["mine/sharp.py:Sharp[size=3]=0.5", "ocr=0.5"]}, "FILE")
    assert config.rewards == (f"{tmp_path}/mine/sharp.py:Sharp[size=3]=0.5", "ocr=0.5")


def test_rewards_of_evaluations_are_measured_and_not_trained_on():
    """Settings and weights folders are for all of them."""
    values = {
        "rewards": ["ocr"],
        "reward_set": ["aesthetic.dtype=bf16"],
        "weights": ["aesthetic=/weights/aesthetic"],
        "evaluation": {"rewards": ["imagestats", "aesthetic"]},
    }
    config = check_config(values, "FILE")
    rewards = choose_rewards(config)
    assert [spec.key for spec in rewards.trained] == ["ocr@1"]
    assert [spec.name for spec in rewards.measured] == [
        "ocr",
        "imagestats.dark",
        "imagestats.edges",
        "imagestats.colours",
        "aesthetic",
    ]
    assert rewards.measured[-1].weights == "/weights/aesthetic"
    assert rewards.measured[-1].options == (("dtype", "bf16"),)


def test_settings_by_the_names_of_an_earlier_version_are_read_and_told(recipe):
    old = ("objective: {kl: 0.5, clip: null}", "times: {count: 2}", "averages: {old_decay: 0.1, evaluation_every: 3}")
    recipe.write_text("\n".join(old))
    notes = []
    config = load_config(recipe, {}, ["times.min_sigma=0.3", "objective.beta=7"], notes.append)
    settings = config.learning
    assert (settings.kl, settings.clip, settings.times, settings.old_decay) == (0.5, None, 2, 0.1)
    assert (settings.min_sigma, settings.beta, config.averages.evaluation_every) == (0.3, 7, 3)
    assert "the setting objective.kl is called dgpo.kl now" in notes
    assert len(notes) == len(set(notes)) == 6
    recipe.write_text("objective: {kl: -1}\n")
    with pytest.raises(UsageError, match=r"dgpo\.kl: .*mine\.yaml, line 1"):
        load_config(recipe)
    with pytest.raises(UsageError, match=r"times\.count is called dgpo\.times now, and both are given"):
        check_config({"times": {"count": 2}, "dgpo": {"times": 3}}, "FILE")


def test_old_and_new_names_are_the_same_config():
    old = {"objective": {"kl": 0.5}, "times": {"one_update": False}, "averages": {"old_growth": 0.5}}
    new = {"dgpo": {"kl": 0.5, "one_update": False, "old_growth": 0.5}}
    assert check_config(old, "FILE") == check_config(new, "FILE")
    assert old == {"objective": {"kl": 0.5}, "times": {"one_update": False}, "averages": {"old_growth": 0.5}}


def test_unknown_algorithm_gets_the_nearest_name():
    assert "There is no algorithm 'dpgo' (FILE). Did you mean \"dgpo\"?" in refusal({"algorithm": "dpgo"})
