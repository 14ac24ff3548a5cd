"""A run folder of somebody else: what it names is neither run nor asked unless the command line says so."""

import json
import socket
import threading

import pytest
import yaml
from typer.testing import CliRunner

from cli.commands import app
from cli.model import choose_model, load_choice
from cli.trust import reaches
from dgpo.config import load_config

EVIL = """
import pathlib
from rewards.card import Card
from rewards.reward import Reward

pathlib.Path(__file__).with_name("was-run").touch()

class Evil(Reward):
    card = Card(name="evil", version=1, unit="share", bounds=(0, 1), higher_is_better=True, summary="for tests")
"""


@pytest.fixture
def evil(tmp_path):
    path = tmp_path / "evil.py"
    path.write_text(EVIL)
    return path


@pytest.fixture
def listener(monkeypatch):
    """A port where somebody notes who comes by; the environment holds what they would like to have."""
    monkeypatch.setenv("DGPO_REWARD_TOKEN", "secret")
    monkeypatch.setenv("DGPO_JUDGE_KEY", "secret")
    monkeypatch.setenv("DGPO_REWARD_DEADLINE_S", "1")
    heard = []

    def listen():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(10_000))

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)


def rewrite(run_folder, **settings):
    path = run_folder / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **settings}))


def train(run_folder, *more):
    words = ["train", "--recipe", str(run_folder / "config.yaml"), "--set", "evaluation.every=0", "--dry-run", *more]
    return CliRunner().invoke(app, words)


RECORDS = [None, "{}", '{"reward_provenance": {}}', '{"reward_provenance": ["evil@1"]}', '{"reward_provenance": 7}']


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("relative", [False, True])
def test_drawing_from_a_run_does_not_run_its_rewards(run_folder, evil, record, relative, monkeypatch, capsys):
    monkeypatch.chdir(evil.parent)
    rewrite(run_folder, rewards=[f"{'evil.py' if relative else evil}:Evil"], workers=0)
    (run_folder / "run.json").unlink()
    if record is not None:
        (run_folder / "run.json").write_text(record)
    assert load_choice(choose_model(str(run_folder))).trained_on is None
    assert "does not record the rewards that it was trained by" in capsys.readouterr().err
    assert not evil.with_name("was-run").exists()


def test_drawing_from_a_run_asks_no_server_that_it_names(run_folder, listener):
    port, heard = listener
    rewrite(
        run_folder,
        rewards=[f"http://127.0.0.1:{port}/ocr"],
        evaluation={"rewards": [f"http://127.0.0.1:{port}/ocr"]},
        reward_set=[f"unifiedreward.judge=http://127.0.0.1:{port}/v1"],
    )
    (run_folder / "run.json").unlink()
    load_choice(choose_model(str(run_folder)))
    assert heard == []


def test_without_a_record_registered_rewards_are_known_by_their_names(run_folder):
    rewrite(run_folder, rewards=["ocr=0.5", "ocr-strict"])
    (run_folder / "run.json").write_text(json.dumps({}))
    assert load_choice(choose_model(str(run_folder))).trained_on == ("ocr@1", "ocr-strict@1")


def test_continuing_a_run_runs_its_file_only_if_that_is_named_or_trusted(run_folder, evil, prompt_file):
    rewrite(run_folder, rewards=[f"{evil}:Evil"], evaluation={}, dgpo={"times": 1})
    refused = train(run_folder)
    assert refused.exit_code == 2
    assert f"names {evil}, and this command line does not" in refused.stderr
    assert "--trust-run" in refused.stderr
    assert not evil.with_name("was-run").exists()
    for more in (("--trust-run",), ("--reward", f"{evil}:Evil=2"), ("--set", f"rewards=['{evil}:Evil']")):
        done = train(run_folder, "--prompts", str(prompt_file), *more)
        assert done.exit_code == 0, done.stderr
        assert evil.with_name("was-run").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"rewards": ["http://127.0.0.1:PORT/ocr"]},
        {"rewards": ["  HTTP://127.0.0.1:PORT/ocr=0.5"]},
        {"rewards": ["unifiedreward[judge=http://127.0.0.1:PORT/v1]"]},
        {"rewards": ["unifiedreward"], "reward_set": ["unifiedreward.judge=http://127.0.0.1:PORT/v1"]},
        {"rewards": ["ocr"], "evaluation": {"rewards": ["http://127.0.0.1:PORT/ocr"], "every": 1, "suite": "signs"}},
    ],
)
def test_continuing_a_run_asks_no_server_that_only_the_run_names(run_folder, listener, settings):
    port, heard = listener
    rewrite(run_folder, **json.loads(json.dumps(settings).replace("PORT", str(port))))
    refused = train(run_folder)
    assert refused.exit_code == 2
    assert f"names http://127.0.0.1:{port}, and this command line does not" in refused.stderr
    assert heard == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ocr@1[weights=v4]=0.5", set()),
        ("stabilityai/stable-diffusion-3.5-medium", set()),
        ("/a/b.py:Class=0.5", {"/a/b.py"}),
        (" /a/b.py:Class[x=1]", {"/a/b.py"}),
        ("/a/../a/b.py:Class", {"/a/b.py"}),
        ("/a/b.py:Class[x=/../a/c.py:1]", {"/a/b.py"}),
        ("/a/b.py:Class[x=http://gpu:8000]", {"/a/b.py", "http://gpu:8000"}),
        ("http://gpu:8000/ocr=0.5", {"http://gpu:8000"}),
        ("HTTPS://GPU/ocr", {"https://gpu"}),
        ("unifiedreward[judge=http://gpu:1/v1,model=x]", {"http://gpu:1"}),
        ("http://[::1]:8000/ocr", {"http://[::1]:8000"}),
        ("http://gpu,elsewhere.org/ocr", {"http://gpu,elsewhere.org"}),
        ("unifiedreward.judge=http://[::1]:8000/v1", {"http://[::1]:8000"}),
        ("x://", {"x://"}),
        ("prompts.py.txt", set()),
    ],
)
def test_files_and_servers_are_found_in_every_spelling(text, found):
    assert reaches(text) == found


def test_naming_a_server_trusts_no_file_that_mentions_it(run_folder, evil, listener):
    port, heard = listener
    sly = f"{evil}:Evil[note=http://127.0.0.1:{port}]"
    rewrite(run_folder, evaluation={"rewards": [sly], "every": 1, "suite": "signs"})
    refused = train(run_folder, "--reward", f"http://127.0.0.1:{port}/ocr")
    assert refused.exit_code == 2
    assert f"names {evil}, and this command line does not" in refused.stderr
    assert not evil.with_name("was-run").exists()
    assert heard == []


def test_built_in_recipes_reach_nothing():
    from dgpo.config import recipe_names

    for name in recipe_names():
        assert [found for text in load_config(name).rewards for found in reaches(text)] == []


def test_what_is_trusted_is_said_and_recorded(run_folder, evil, prompt_file, tmp_path):
    evil.write_text(
        EVIL + "\n    def score(self, images, prompts):\n        return [image.width / 1000 for image in images]\n"
    )
    few = {"workers": 0, "steps": 1, "watch": {"canaries": 0}, "evaluation": {"every": 0}, "dgpo": {"times": 1}}
    rewrite(run_folder, rewards=[f"{evil}:Evil"], **few)
    words = ["train", "--recipe", str(run_folder / "config.yaml"), "--prompts", str(prompt_file), "--trust-run"]
    done = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "mine")])
    assert done.exit_code == 0, done.stderr
    assert f"--trust-run: {evil} will be used, though only the recipe names it" in done.stderr
    assert json.loads((tmp_path / "mine/run.json").read_text())["trusted"] == [str(evil)]
