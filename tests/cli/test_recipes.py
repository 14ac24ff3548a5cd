"""`dgpo recipes`: the settings training starts from."""

import json

import yaml
from typer.testing import CliRunner

from cli.commands import app
from dgpo.config import load_config, recipe_names


def run(*words):
    return CliRunner().invoke(app, ["recipes", *words])


def test_list_has_every_recipe_with_its_model_and_steps():
    entries = json.loads(run("ls", "--json").stdout)
    assert [entry["recipe"] for entry in entries] == recipe_names()
    tiny = next(entry for entry in entries if entry["recipe"] == "tiny")
    assert (tiny["model"], tiny["steps"]) == ("tiny", load_config("tiny").steps)
    assert tiny["what"]
    assert [line.split()[0] for line in run("ls").stdout.splitlines()[1:]] == recipe_names()


def test_show_prints_what_train_would_read():
    text = run("show", "tiny").stdout
    assert load_config("tiny").model_dump(mode="json")["groups"] == yaml.safe_load(text)["groups"]


def test_unknown_recipe_ends_with_2_and_a_suggestion():
    result = run("show", "tinny")
    assert result.exit_code == 2
    assert 'Did you mean "tiny"?' in result.stderr


def test_recipe_file_with_an_unknown_setting_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("grups: 4\n")
    result = run("show", str(path))
    assert result.exit_code == 2
    assert '"groups"' in result.stderr
