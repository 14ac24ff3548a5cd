import json
import shutil

import pytest
import torch

from dgpo.checkpoint import Progress, checkpoints, damage, restore_checkpoint, save_checkpoint
from rewards.errors import UsageError
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
    path = save_checkpoint(tmp_path, policy, optimizer, Progress(step=12, updates=48))
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


@pytest.mark.parametrize("text", [None, "", '{"trainer.json": "ab', "[1]"])
def test_lost_manifest_is_damage(tmp_path, text):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    assert damage(tmp_path) == "its manifest cannot be read"


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
    assert save_checkpoint(path.parent, policy, optimizer, Progress(step=12, updates=49)) == path
    assert json.loads((path / "trainer.json").read_text()) == {"step": 12, "updates": 49}
    assert damage(path) is None
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_checkpoint_of_other_settings_is_refused(make_policy, method, saved):
    policy, _ = make_policy({"training.method": method})
    with pytest.raises(UsageError, match="--fresh"):
        restore_checkpoint(saved[0], policy, torch.optim.AdamW(policy.parameters))
