"""What an algorithm cannot do is a sentence before anything is drawn."""

import pytest
from typer.testing import CliRunner

from cli.commands import app
from dgpo import session


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--algorithm", "flow-grop"), 'Did you mean "flow-grpo"?'),
        (("--algorithm", "nft", "--set", "dgpo.beta=10"), "settings of the algorithm dgpo, and this run learns by nft"),
        (("--algorithm", "nft", "--set", "nft.bta=10"), 'Did you mean "nft.beta"'),
        (("--algorithm", "nft", "--set", "rollout.noise=sde"), "nft learns from images of an ODE"),
        (("--algorithm", "flow-grpo", "--set", "rollout.noise=none"), "use sde or cps"),
        (("--algorithm", "flow-grpo", "--set", "sampling.sampler=dpm++"), "the first step would explode"),
        (("--algorithm", "flow-grpo", "--set", "rollout.window=9"), "does not fit the steps 0 to 5"),
        (("--algorithm", "flow-grpo", "--set", "rollout.noise=sa"), "those of rollout.noise=sa have none"),
        (("--algorithm", "flow-grpo", "--set", "rollout.noise_level=0"), "an ODE is rollout.noise=none"),
        (
            ("--algorithm", "awm", "--set", "rollout.noise=sa", "--set", "rollout.window=2"),
            "sa adds its noise between two noise levels",
        ),
        (("--set", "rollout.window=2"), "are for a rollout with rollout.noise"),
        (("--algorithm", "nft", "--set", "nft.times=11"), "the rollout visits 10 times"),
        (("--algorithm", "awm", "--set", "awm.times=9"), "cannot be cut into so many parts"),
        (("--algorithm", "diffusion-dpo", "--set", "diffusion_dpo.times=11"), "diffusion_dpo.times is 11"),
        (("--algorithm", "nft", "--model", "stabilityai/x", "--reward", "aesthetic"), "There is no recipe for nft"),
    ],
)
def test_wrong_use_is_a_sentence(tmp_path, words, said):
    rewards = () if "--reward" in words else ("--reward", "ocr")
    done = CliRunner().invoke(app, ["train", *rewards, "--dry-run", "--output", str(tmp_path / "run"), *words])
    assert done.exit_code == 2, done.output
    assert said in done.stderr
    assert not (tmp_path / "run").exists()


def test_flow_grpo_needs_its_own_rollout(tmp_path):
    words = ("train", "--algorithm", "flow-grpo", "--reward", "ocr", "--from", str(tmp_path), "--output", "run")
    done = CliRunner().invoke(app, [*words, "--dry-run"])
    assert done.exit_code == 2, done.output
    assert "learns from the steps of its own rollout" in done.stderr


def test_a_trajectory_that_does_not_fit_is_refused_before_anything_is_drawn(tmp_path, monkeypatch):
    """128 images of 10 latents of 8 x 8 x 16 numbers in fp32 are 5 MiB."""
    monkeypatch.setattr(session, "free_memory", lambda device: 5 * 2**20 - 1)
    words = ("train", "--algorithm", "flow-grpo", "--reward", "ocr", "--output", str(tmp_path / "run"))
    done = CliRunner().invoke(app, [*words, "--set", "workers=0", "--set", "watch.canaries=0"])
    assert done.exit_code == 2, done.output
    assert "trajectories of 128 images" in done.stderr
    assert not list((tmp_path / "run").glob("checkpoints/*"))
