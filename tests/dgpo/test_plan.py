import json
import math

import pytest

from dgpo.config import check_config
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

    @staticmethod
    def passes(guidance):
        return 1


def test_the_cost_of_a_named_model_is_known_without_loading_it(tmp_path, monkeypatch):
    monkeypatch.setitem(FAMILIES, "EmbeddedPipeline", Embedded)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "EmbeddedPipeline"}))
    assert find_cost(str(tmp_path))(4.5) == 1
    assert find_cost("tiny")(4.5) == 2
    assert find_cost("nobody/no-such-model")(math.inf) == 2
