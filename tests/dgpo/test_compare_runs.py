import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from dgpo.compare_runs import compare_runs, digest_run, main
from rewards.errors import UsageError
from tests.dgpo.training import small_config, train


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    train(small_config("tiny", {"steps": 2, "checkpoint.every": 1, "samples.every": 1}), folder)
    return folder


@pytest.fixture
def other(first, tmp_path):
    return shutil.copytree(first, tmp_path / "b")


def rewrite_tensor(path, change):
    tensors = load_file(path)
    name = sorted(tensors)[0]
    change(tensors[name].view(-1))
    save_file(tensors, path)
    return name


def test_the_same_training_made_again_is_equal_bit_for_bit(first, tmp_path, capsys):
    again = tmp_path / "again"
    train(small_config("tiny", {"steps": 2, "checkpoint.every": 1, "samples.every": 1}), again)
    assert compare_runs(first, again) == []
    assert digest_run(first) == digest_run(again)
    assert main([str(first), str(again), "--assert-equal"]) == 0
    assert capsys.readouterr().out.startswith("equal in ")


def test_another_seed_differs_from_the_first_pictures_on(first, tmp_path):
    train(small_config("tiny", {"steps": 1, "seed": 1, "checkpoint.every": 1, "samples.every": 1}), tmp_path / "c")
    names = {difference.name for difference in compare_runs(first, tmp_path / "c")}
    assert {"reward", "loss"} <= names
    assert any(name.startswith("trainer.safetensors: optimizer/") for name in names)
    assert digest_run(first) != digest_run(tmp_path / "c")


def test_the_last_bit_of_one_tensor_is_named_with_its_step(first, other, capsys):
    def flip(tensor):
        tensor[0] = tensor[0].nextafter(tensor[0] + 1)

    name = rewrite_tensor(other / "checkpoints" / "step-000002" / "trainer.safetensors", flip)
    (found,) = compare_runs(first, other)
    assert (found.step, found.name) == (2, f"trainer.safetensors: {name}")
    assert main([str(first), str(other)]) == 0
    assert main([str(first), str(other), "--assert-equal"]) == 4
    assert f"step 2: trainer.safetensors: {name}: torch.float32" in capsys.readouterr().out


def test_the_earliest_step_comes_first_and_timings_do_not_count(first, other):
    path = other / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["seconds"] = {"draw": 1e9}
    lines[-1]["kl"] += 1e-12
    lines[0]["rewards"]["imagestats.edges@1"] = 7.0
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = compare_runs(first, other)
    assert [(one.step, one.name) for one in found] == [(1, "rewards.imagestats.edges@1"), (2, "kl")]
    assert found[0].b == "7.0"


def test_what_one_run_lacks_is_a_difference(first, other):
    (other / "samples" / "step-000001.png").unlink()
    (found,) = compare_runs(first, other)
    assert str(found).endswith("absent in B")


def test_a_folder_without_a_run_is_told(first, tmp_path, capsys):
    with pytest.raises(UsageError, match="holds no training run"):
        compare_runs(first, tmp_path)
    assert main([str(first), str(tmp_path)]) == 2
    assert "holds no training run" in capsys.readouterr().err
