import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dgpo.checkpoint import (
    Progress,
    checkpoints,
    damage,
    once_held_some,
    read_published,
    restore_checkpoint,
    save_checkpoint,
    take_snapshot,
    whose_weights,
)
from rewards.errors import SetupError, UsageError
from tests.dgpo.training import stir


def train_a_little(policy, steps, optimizer=None):
    """AdamW steps with seeded gradients; averages follow."""
    optimizer = optimizer or torch.optim.AdamW(policy.parameters, lr=1e-2)
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        for parameter in policy.parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
        for name in set(policy.snapshots) - {"reference"}:
            policy.follow(name, 0.5)
    return optimizer


def state_of(policy, optimizer):
    state = {f"trained/{name}": p.detach().clone() for name, p in policy.trained.items()}
    for who, snapshot in policy.snapshots.items():
        state |= {f"{who}/{name}": tensor.clone() for name, tensor in snapshot.items()}
    for place, fields in optimizer.state_dict()["state"].items():
        state |= {f"optimizer/{place}/{name}": torch.as_tensor(value).clone() for name, value in fields.items()}
    return state


def differing(one, other):
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.fixture(params=["lora", "full"])
def method(request):
    return request.param


@pytest.fixture
def saved(make_policy, method, tmp_path):
    policy, _ = make_policy({"training.method": method})
    policy.keep("old")
    policy.keep("average")
    optimizer = train_a_little(policy, 2)
    path = save_checkpoint(tmp_path, policy, take_snapshot(policy, optimizer, Progress(step=12, updates=48)))
    return path, policy, optimizer


def fresh_policy(make_policy, method):
    policy, _ = make_policy({"training.method": method})
    policy.keep("old")
    policy.keep("average")
    return policy, torch.optim.AdamW(policy.parameters, lr=1e-2)


def test_round_trip_is_bit_for_bit(make_policy, method, saved):
    path, policy, optimizer = saved
    other, other_optimizer = fresh_policy(make_policy, method)
    assert restore_checkpoint(path, other, other_optimizer) == Progress(12, 48)
    assert differing(state_of(policy, optimizer), state_of(other, other_optimizer)) == []
    train_a_little(policy, 2, optimizer)
    train_a_little(other, 2, other_optimizer)
    assert differing(state_of(policy, optimizer), state_of(other, other_optimizer)) == []


def test_restored_snapshots_are_their_own(make_policy, method, saved):
    other, optimizer = fresh_policy(make_policy, method)
    restore_checkpoint(saved[0], other, optimizer)
    before = {name: tensor.clone() for name, tensor in other.snapshots["old"].items()}
    stir(other, 0.1)
    assert all(torch.equal(before[name], tensor) for name, tensor in other.snapshots["old"].items())


def test_holds_what_others_load(method, saved):
    path = saved[0]
    expected = (
        "transformer/diffusion_pytorch_model.safetensors" if method == "full" else "pytorch_lora_weights.safetensors"
    )
    names = set(json.loads((path / "manifest.json").read_text()))
    assert {expected, "trainer.safetensors", "trainer.json"} <= names
    present = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    assert names == present - {"manifest.json"}
    assert damage(path) is None


def flip_a_bit(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_damage_is_found(saved, tmp_path):
    path = saved[0]
    for name in json.loads((path / "manifest.json").read_text()):
        for what, harm in (
            ("damaged", flip_a_bit),
            ("damaged", lambda file: file.write_bytes(b"")),
            ("missing", lambda file: file.unlink()),
        ):
            copy = shutil.copytree(path, tmp_path / "copy")
            harm(copy / name)
            assert damage(copy) == f"{name} is {what}"
            shutil.rmtree(copy)


@pytest.mark.parametrize("text", [None, "", '{"trainer.json": "ab', "{}", "[]", "[1]", "7", '{"trainer.json": "0"}'])
def test_lost_manifest_is_damage(tmp_path, text):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    assert "its manifest" in str(damage(tmp_path))


@pytest.mark.parametrize("name", ["../../secret", "/dev/null", "/etc/passwd", "x" * 3000, "a\0b"])
def test_a_manifest_names_only_files_of_its_own(saved, name):
    manifest = saved[0] / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), name: "0" * 64}))
    assert damage(saved[0]) in (f"its manifest names {name}, which is not in it", f"{name} is missing")


def test_a_pipe_is_no_manifest(saved):
    manifest = saved[0] / "manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)
    assert damage(saved[0]) == "its manifest cannot be read"


@pytest.mark.parametrize("text", ["[]", "{}", "nonsense", '{"step": "1", "updates": 1}', "[" * 100_000])
def test_a_checkpoint_that_does_not_say_how_far_it_came(saved, text):
    (saved[0] / "trainer.json").write_text(text)
    with pytest.raises(UsageError, match="does not say how far"):
        whose_weights(saved[0])


def test_weights_that_are_none(saved, method):
    for path in saved[0].rglob("*.safetensors"):
        path.write_bytes(b"nonsense")
    with pytest.raises(UsageError, match=r"safetensors cannot be used: .*name another one"):
        read_published(saved[0], method)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read, whoever asks")
def test_what_may_not_be_read_is_no_damage(saved):
    path = saved[0]
    (path / "trainer.json").unlink()
    (path / "trainer.json").symlink_to("/proc/self/mem")
    with pytest.raises(SetupError, match=r"trainer\.json cannot be read \(Input/output error\)"):
        damage(path)


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_all_files_follow_the_umask(saved, mask):
    path, policy, optimizer = saved
    before = os.umask(mask)
    try:
        save_checkpoint(path.parent, policy, take_snapshot(policy, optimizer, Progress(step=12, updates=48)))
    finally:
        os.umask(before)
    files = [file for file in path.rglob("*") if file.is_file()]
    assert len(files) >= 4
    assert {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~mask}


PUBLISH_AGAIN = """
import sys, torch
from pathlib import Path
from dgpo.checkpoint import publish_weights
from dgpo.load import load_policy
from tests.dgpo.training import small_config
policy = load_policy(sys.argv[1], small_config(sys.argv[1]), torch.device("cpu"), trainable=True)
for parameter in policy.parameters:
    torch.nn.init.ones_(parameter)
publish_weights(Path(sys.argv[2]), policy, policy.published_weights("current"))
"""


@pytest.mark.slow
def test_the_same_weights_are_published_as_the_same_file(model_folder, tmp_path):
    """Python puts sets in another order in every process, and so does safetensors with what describes a file."""
    for name in ("1", "2"):
        folder = tmp_path / name
        folder.mkdir()
        environment = {**os.environ, "PYTHONHASHSEED": name}
        words = [sys.executable, "-c", PUBLISH_AGAIN, str(model_folder), str(folder)]
        subprocess.run(words, env=environment, check=True, cwd=Path(__file__).parents[2])
    files = {(tmp_path / name / "pytorch_lora_weights.safetensors").read_bytes() for name in ("1", "2")}
    assert len(files) == 1
    assert b'"lora_adapter_metadata"' in files.pop()


def test_half_written_folder_is_no_checkpoint(saved):
    path = saved[0]
    path.rename(path.with_name(".step-000012.partial"))
    assert list(checkpoints(path.parent)) == []


def test_newest_comes_first(tmp_path):
    for step in (50, 999999, 1000000, 7):
        (tmp_path / f"step-{step:06d}").mkdir()
    (tmp_path / "damaged-step-000999").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == [
        "step-1000000",
        "step-999999",
        "step-000050",
        "step-000007",
    ]


def test_saving_a_step_again_replaces_it(saved):
    path, policy, optimizer = saved
    train_a_little(policy, 1, optimizer)
    assert save_checkpoint(path.parent, policy, take_snapshot(policy, optimizer, Progress(step=12, updates=49))) == path
    assert json.loads((path / "trainer.json").read_text()) == {
        "step": 12,
        "updates": 49,
        "published": "trained",
    }
    assert damage(path) is None
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".saved", path.name]


def test_a_folder_knows_that_it_held_checkpoints(saved, tmp_path):
    folder = saved[0].parent
    assert once_held_some(folder)
    shutil.rmtree(saved[0])
    assert once_held_some(folder)
    (tmp_path / "new" / ".step-000001.partial").mkdir(parents=True)  # a first one that was never finished
    assert not once_held_some(tmp_path / "new")


def test_checkpoint_of_other_settings_is_refused(make_policy, method, saved):
    policy, _ = make_policy({"training.method": method})
    with pytest.raises(UsageError, match="--fresh"):
        restore_checkpoint(saved[0], policy, torch.optim.AdamW(policy.parameters))


def test_what_is_learned_after_it_was_taken_is_not_in_it(make_policy, method, tmp_path):
    policy, optimizer = fresh_policy(make_policy, method)
    train_a_little(policy, 1, optimizer)
    taken, before = take_snapshot(policy, optimizer, Progress(step=1, updates=1)), state_of(policy, optimizer)
    before = {name: tensor.clone() for name, tensor in before.items()}
    published = policy.published_weights("current")
    train_a_little(policy, 2, optimizer)
    path = save_checkpoint(tmp_path, policy, taken)
    other, other_optimizer = fresh_policy(make_policy, method)
    restore_checkpoint(path, other, other_optimizer)
    assert differing(before, state_of(other, other_optimizer)) == []
    assert differing(published, read_published(path, method)) == []


def test_only_so_many_are_kept_and_nothing_else_is_touched(make_policy, tmp_path):
    policy, optimizer = fresh_policy(make_policy, "lora")
    others = ["copy of step-000001", "damaged-step-000002", "step-notes"]
    for name in others:
        (tmp_path / name).mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for step in (1, 2, 3, 10):
        taken = take_snapshot(policy, optimizer, Progress(step=step, updates=step))
        save_checkpoint(tmp_path / "run", policy, taken, keep=2)
        if step == 1:
            (tmp_path / "run/step-000000").symlink_to(elsewhere)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {".saved", "step-000000", "step-000003", "step-000010"}
    assert elsewhere.is_dir()
    assert all((tmp_path / name).is_dir() for name in others)


def test_the_reference_of_full_fine_tuning_is_the_model_and_is_not_written(make_policy, tmp_path):
    """One that an earlier version has written is passed over."""
    policy, optimizer = fresh_policy(make_policy, "full")
    train_a_little(policy, 2, optimizer)
    taken = take_snapshot(policy, optimizer, Progress(step=2, updates=2))
    assert not any(name.startswith("reference/") for name in taken.trainer)
    reference = {f"reference/{name}": tensor for name, tensor in policy.snapshots["reference"].items()}
    earlier = replace(taken, trainer={**taken.trainer, **reference})
    for name, snapshot in {"now": taken, "earlier": earlier}.items():
        path = save_checkpoint(tmp_path / name, policy, snapshot)
        other, other_optimizer = fresh_policy(make_policy, "full")
        assert restore_checkpoint(path, other, other_optimizer) == Progress(2, 2)
        assert differing(state_of(policy, optimizer), state_of(other, other_optimizer)) == []
