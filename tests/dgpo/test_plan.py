import json
import math
from typing import Any

import pytest

from dgpo.config import check_config, place
from dgpo.load import find_cost
from dgpo.models.families import FAMILIES
from dgpo.models.model import Model
from dgpo.models.sd3 import SD3
from dgpo.plan import planned_passes

CONFIG = check_config(
    {
        "sampling": {"steps": 6, "guidance": 4.5},
        "dgpo": {"times": 3, "clip": 0.01, "reference_guidance": 4.5},
    },
    "the test",
)


@pytest.mark.parametrize(("cost", "rollout", "reference"), [(Model.passes, 12, 6), (lambda guidance: 1, 6, 3)])
def test_what_guidance_costs_is_the_familys(cost, rollout, reference):
    planned = planned_passes(CONFIG, cost)
    assert planned == {"rollout": rollout, "old": 3, "reference": reference, "current": 3, "backward": 3}


def test_groups_without_variance_are_skipped():
    assert planned_passes(CONFIG, Model.passes, live_share=0.5)["current"] == 1.5


class Embedded(SD3):
    """Its network takes the scale as an input."""

    @classmethod
    def passes(cls, guidance):
        return 1


def test_the_cost_of_a_named_model_is_known_without_loading_it(tmp_path, monkeypatch):
    monkeypatch.setitem(FAMILIES, "EmbeddedPipeline", Embedded)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "EmbeddedPipeline"}))
    assert find_cost(str(tmp_path))(4.5) == 1
    assert find_cost("tiny")(4.5) == 2
    assert find_cost("nobody/no-such-model")(math.inf) == 2


FLOW = {"algorithm": "flow-grpo", "sampling.sampler": "euler"}
AWM14 = {"algorithm": "awm", "awm.times": 6, "sampling.steps": 14, "sampling.guidance": 1.0}
DPO40 = {
    "algorithm": "diffusion-dpo", "diffusion_dpo.times": 39, "sampling.steps": 40, "sampling.guidance": 4.5,
    "group_size": 24, "diffusion_dpo.choice": "logit-normal",
}  # fmt: skip
GUIDED, PLAIN = {"sampling.guidance": 4.5}, {"sampling.guidance": 1.0}


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        pytest.param({**FLOW, **GUIDED}, (20, 0, 18, 18, 18), id="flow-grpo, guided, KL on"),
        pytest.param({**GUIDED}, (20, 4, 4, 4, 4), id="dgpo, guided"),
        pytest.param({**GUIDED, "dgpo.clip": None}, (20, 0, 4, 4, 4), id="dgpo, clip off"),
        pytest.param({**PLAIN, "dgpo.reference": "old"}, (10, 4, 0, 4, 4), id="dgpo, ema-ref"),
        pytest.param({**PLAIN, "dgpo.reference_guidance": 4.5}, (10, 4, 8, 4, 4), id="dgpo, no-cfg"),
        pytest.param(
            {**FLOW, **PLAIN, "flow_grpo.kl": 0.0, "rollout.noise": "cps", "rollout.window": 3}, (10, 0, 0, 3, 3),
            id="flow-grpo-fast, no guidance, KL off",
        ),
        pytest.param({**FLOW, **GUIDED, "rollout.window": 3}, (20, 0, 6, 6, 6), id="flow-grpo-fast, guided, KL on"),
        pytest.param(
            {**FLOW, **GUIDED, "flow_grpo.kl": 0.0, "flow_grpo.guard": "batch"}, (20, 0, 0, 18, 18), id="guard"
        ),
        pytest.param({"algorithm": "nft", **PLAIN}, (10, 9, 9, 9, 9), id="nft"),
        pytest.param(
            {"algorithm": "nft", **PLAIN, "nft.times": 24, "sampling.steps": 25}, (25, 24, 24, 24, 24),
            id="nft, several rewards",
        ),
        pytest.param(AWM14, (14, 6, 6, 6, 6), id="awm"),
        pytest.param(DPO40, (80, 0, 3.25, 3.25, 3.25), id="diffusion-dpo of flow_grpo"),
        pytest.param(
            {"algorithm": "diffusion-dpo", **GUIDED, "diffusion_dpo.times": 4, "group_size": 16},
            (20, 0, 0.5, 0.5, 0.5), id="diffusion-dpo, textbook",
        ),
    ],
)  # fmt: skip
def test_passes_are_those_of_the_literature(changes, passes):
    """Rollout, old, reference, current and backward, for each image; 10 steps and 4 times unless it says otherwise."""
    values: dict[str, Any] = {}
    for name, value in {"sampling.steps": 10, **changes}.items():
        place(values, name.split("."), value)
    planned = planned_passes(check_config(values, "the test"), Model.passes)
    purposes = ("rollout", "old", "reference", "current", "backward")
    assert tuple(planned.get(purpose, 0) for purpose in purposes) == pytest.approx(passes)
