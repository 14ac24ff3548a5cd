"""What a training is made from and by, for its run.json, and what of that may change between its parts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dgpo.config import Config
from dgpo.contents import model_contents, prompts_contents
from dgpo.offline import Recording
from dgpo.plan import Cost, planned_passes
from rewards.prompt import Prompt


def describe_training(
    config: Config,
    prompts: Sequence[Prompt],
    rewards: Mapping[str, Mapping[str, str]],
    recording: Recording | None,
    *,
    cost: Cost,
    processes: int,
) -> dict[str, Any]:
    """Facts that can be told once the model is loaded, when the commit of a hub model is known.

    `rewards` is what each reward, by its key, says of itself; `cost` is the model's.
    """
    return {
        "processes": processes,
        "passes": planned_passes(config, cost),
        "reward_provenance": {key: dict(facts) for key, facts in rewards.items()},
        "contents": {
            "model": model_contents(config.model),
            "prompts": prompts_contents(prompt.id for prompt in prompts),
            **({} if recording is None else {"source.folder": recording.contents}),
            "weights": {key: facts["weights"] for key, facts in rewards.items() if "weights" in facts},
        },
    }


def tell_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for what is not as it was in the run's earlier part, and may be so."""
    if before.get("processes", now["processes"]) != now["processes"]:
        yield (
            f"it was trained in {before['processes']} processes until now and goes on in {now['processes']}: sums are "
            "made in another order, so it is not to the last bit the run that it would have been"
        )
    earlier = before.get("reward_provenance")
    for key, facts in now["reward_provenance"].items():
        old = earlier.get(key) if isinstance(earlier, Mapping) else None
        if isinstance(old, Mapping) and old.get("source") != facts.get("source"):
            yield (
                f"{key} comes from another source than before ({old.get('source')} then, {facts.get('source')} now); "
                "the canaries tell whether it scores as it did"
            )
