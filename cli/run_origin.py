"""What a run folder says of the model it made: the base it was trained on, and the rewards it was trained by.

The folder may be somebody else's, so nothing that it names is imported or asked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cli.screen import say
from cli.trust import reaches
from dgpo.contents import model_contents
from dgpo.models.find import HubId, find_model
from rewards.errors import SetupError, UsageError

if TYPE_CHECKING:
    from dgpo.config import Config

_BASE = "Say where its base model is now with --base DIR"


@contextmanager
def finding_base(run: Path, config: Config, given: str | None) -> Iterator[str]:
    """The name of the base to draw with: `given` by --base, else the run's; what is wrong with it names the run.

    Raises:
        UsageError, SetupError: it cannot be found, or cannot be loaded.
    """
    if given is not None:
        yield given
        return
    try:
        if not isinstance(find_model(config.model), Path) and _was_a_folder(run):
            raise UsageError(f"There is no model folder {config.model} here.")
    except (UsageError, SetupError) as error:
        raise _naming(run, config, error) from None
    try:
        yield config.model
    except SetupError as error:  # a wrong use, of a setting or a checkpoint, is not the base's fault
        raise _naming(run, config, error) from None


def _naming(run: Path, config: Config, error: UsageError | SetupError) -> UsageError | SetupError:
    return type(error)(f"{run} was trained on the model {config.model}: {error} {_BASE}.")


def check_base(run: Path, base: str, given: str | None) -> str | None:
    """The contents of a base that was loaded, which have to be those of the base that the run was trained on.

    A base that was `given` and is another one is drawn from as it was asked for, which is said.

    Raises:
        UsageError: the run's own base was replaced.
    """
    then, now = _recorded_base(run), model_contents(base)
    if then is None:
        say(f"{run} does not record the contents of the model that it was trained on; {base} is taken to be that model")
    elif then != now and given is not None:
        say(
            f"{base}, which --base names, is not the model that {run} was trained on ({then} then, {now} now); images "
            "are drawn from it all the same, and the record says so"
        )
    elif then != now:
        raise UsageError(
            f"{run} was trained on other contents of the model {base} ({then} then, {now} now), so that what it "
            f"learned does not go with it. {_advise(base, then)}"
        )
    return now


def find_trained_on(run: Path, config: Config) -> tuple[str, ...] | None:
    """Keys of the rewards a run was trained by: as it recorded them, else as its settings name them; None if unknown.

    What they were made from need not be here any more.
    """
    from dgpo.run import read_facts
    from rewards.parse import parse_rewards

    recorded = read_facts(run).get("reward_provenance")
    if isinstance(recorded, dict) and recorded:
        return tuple(recorded)
    if not any(map(reaches, config.rewards)):
        try:
            return tuple(spec.key for spec in parse_rewards(config.rewards))
        except (UsageError, SetupError):
            pass  # a reward that is not installed here
    say(f"{run} does not record the rewards that it was trained by, so that the domain of each score is called none")
    return None


def _recorded_base(run: Path) -> str | None:
    from dgpo.run import read_facts

    found = read_facts(run).get("contents", {}).get("model")
    return found if isinstance(found, str) else None


def _was_a_folder(run: Path) -> bool:
    return (_recorded_base(run) or "").startswith("contents:")


def _advise(base: str, then: str) -> str:
    """How to get back what a hub model was."""
    if isinstance(find_model(base), Path):
        return f"{_BASE}."
    return f"What it was trained on is --base {HubId.of(base).repository}@{then}."
