"""The contract of tests/rewards/test_contract.py, kept by rewards that a server on this machine scores."""

import importlib
import socket
from typing import Any

import pytest

from rewards.parse import parse_rewards
from rewards.pool import score_batch
from rewards.registry import load
from rewards.remote.client import ServedReward
from tests.rewards.served import serving

contract = importlib.import_module("tests.rewards.test_contract")
# Its tests and fixtures, as they are; what follows takes the place of some.
globals().update({name: thing for name, thing in vars(contract).items() if not name.startswith("_")})

OPEN = set()


@pytest.fixture(scope="module", params=["imagestats.edges", "ocr[detect=false]", "aesthetic", "pickscore"])
def reward(request):
    with serving([contract.spec_of(request.param)]) as server:
        OPEN.add(server.address)
        (spec,) = parse_rewards([f"{server.base}/{request.param.partition('[')[0]}"])
        served: Any = load(spec)
        served.server = server
        yield served
        OPEN.clear()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """To the server and nowhere else."""
    connect = socket.socket.connect

    def refuse(self, address):
        assert address in OPEN, f"a reward went to the network: {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_it_is_the_served_reward_under_its_own_key(reward):
    (behind,) = reward.server.service.engine.rewards.values()
    assert isinstance(reward, ServedReward)
    assert not isinstance(behind, ServedReward)
    assert reward.spec.key == behind.spec.key
    assert (reward.card.key, reward.card.unit, reward.card.bounds) == (
        behind.card.key,
        behind.card.unit,
        behind.card.bounds,
    )


def test_the_scores_are_those_made_here(reward, images, prompts, scores, agree):
    (behind,) = reward.server.service.engine.rewards.values()
    agree(behind.score(images, prompts), scores)


def test_a_failing_engine_is_a_failed_score(reward, images, prompts, monkeypatch):
    """A failed score of the server is one here, with its reason; the request itself succeeds."""

    def fail(*_args, **_kwargs):
        raise RuntimeError("out of memory")

    (behind,) = reward.server.service.engine.rewards.values()
    monkeypatch.setattr(type(behind), "score", fail)
    result = score_batch({"it": reward}, images, prompts).scores["it"]
    assert [score.value for score in result] == [None] * 8
    assert all(score.reason == "RuntimeError: out of memory" for score in result)
