"""run.json says what made a result."""

import importlib.metadata
import json
import os
import platform
import subprocess
from datetime import datetime, timedelta

import pytest

from cli.provenance import available_cores, find_commit, package_versions, provenance
from dgpo.memory import total_memory


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", *identity, "-C", folder, *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "one")
    return tmp_path


def test_provenance_is_plain_json_with_every_fact():
    facts = provenance(["dgpo", "eval", "--suite", "signs"])
    assert json.loads(json.dumps(facts)) == facts
    assert facts["schema"] == 2
    assert facts["command_line"] == ["dgpo", "eval", "--suite", "signs"]
    assert facts["python"] == platform.python_version()
    assert datetime.fromisoformat(facts["time"]).utcoffset() == timedelta(0)
    assert facts["hardware"]["cores"] == available_cores() >= 1
    assert facts["hardware"]["memory_gib"] == pytest.approx(total_memory() / 2**30, abs=0.06)
    assert isinstance(facts["hardware"]["gpus"], list)


def test_installed_packages_with_their_versions_and_no_others():
    versions = package_versions()
    assert versions["torch"] == importlib.metadata.version("torch")
    for name in ("diffusers", "transformers", "peft", "accelerate", "numpy"):
        assert versions[name]
    assert all(versions.values())


def test_commit_and_whether_tracked_files_differ_from_it(checkout):
    sha = git(checkout, "rev-parse", "HEAD").strip()
    assert find_commit(checkout) == {"sha": sha, "dirty": False}
    (checkout / "untracked").write_text("")
    assert find_commit(checkout) == {"sha": sha, "dirty": False}
    (checkout / "file").write_text("two")
    assert find_commit(checkout) == {"sha": sha, "dirty": True}


def test_an_installation_inside_somebodys_checkout_has_no_commit(checkout):
    inner = checkout / "site-packages"
    inner.mkdir()
    assert find_commit(inner) is None


def test_a_checkout_without_git_has_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    assert find_commit(checkout) is None


def test_a_checkout_without_a_commit_has_none(tmp_path):
    git(tmp_path, "init", "-q")
    assert find_commit(tmp_path) is None
