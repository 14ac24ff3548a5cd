"""`training.checkpointing=auto`: decided once, recorded, kept, and counted."""

import pytest

from dgpo.run import read_config
from tests.dgpo.run_files import steps
from tests.dgpo.training import digest, small_config, train


@pytest.mark.parametrize(("room", "recomputes"), [(2**40, False), (2**20, True)])
def test_a_run_decides_once_and_keeps_to_it(model_folder, tmp_path, monkeypatch, room, recomputes):
    monkeypatch.setattr("dgpo.session.room_of", lambda device, processes: room)
    notes, changes = [], {"training.checkpointing": "auto", "steps": 1}
    train(small_config(model_folder, changes), tmp_path / "run", on_note=notes.append)
    assert read_config(tmp_path / "run").training.checkpointing is recomputes
    assert any(f"training.checkpointing={str(recomputes).lower()}" in note for note in notes)
    passes = steps(tmp_path / "run")[0]["passes"]
    assert passes.get("recompute") == (passes["backward"] if recomputes else None)
    monkeypatch.setattr("dgpo.session.room_of", lambda device, processes: 2**60 // room)
    train(small_config(model_folder, {**changes, "steps": 2}), tmp_path / "run")
    assert read_config(tmp_path / "run").training.checkpointing is recomputes


def test_what_is_recomputed_is_the_same(model_folder, tmp_path):
    for on in (False, True):
        train(small_config(model_folder, {"training.checkpointing": on, "steps": 2}), tmp_path / str(on))
    assert digest(tmp_path / "True", 2) == digest(tmp_path / "False", 2)
