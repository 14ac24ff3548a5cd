"""run.json: what made the scores of a folder, kept so that two folders are compared only where that is fair.

Its form is `rewards.run_record.EvaluationRecord`. Whatever the caller knows (program, packages,
hardware, `model`, `sampler`, `precision`, command line) stands beside them under the caller's own names.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.drawing import precision_of, settings_of
from benchmarks.harness.request import Request
from benchmarks.harness.store import check_folder
from rewards.errors import UsageError
from rewards.files import write_json
from rewards.pool import RewardFacts
from rewards.run_record import EVALUATION, RECORD_FILE, OtherKind, Record, read_run_record, stamp

DRAWN = "images"
DRAWN_BY = ("sampler", "precision")
CONTENTS = {"weights": "model", "base_contents": "base model"}


def describe_run(request: Request, rewards: Mapping[str, RewardFacts]) -> Record:
    """The record of one evaluation that is about to start, as plain JSON values."""
    suite, images, trained_on = request.suite, request.images, request.trained_on
    record = {
        **request.facts,
        "run": request.run_name,
        "suite": {
            "name": suite.name,
            "sha256": suite.sha256,
            "source": suite.source,
            "prompts": len(suite.prompts),
        },
        "seeds": list(request.seeds),
        "images": DRAWN if images is None else str(images.resolve()),
        "trained_on": None if trained_on is None else sorted(trained_on),
        "rewards": {key: describe_reward(reward) for key, reward in rewards.items()},
        "finished": False,
    }
    return json.loads(json.dumps(stamp(record, EVALUATION), default=str, allow_nan=False))


def describe_reward(reward: RewardFacts) -> Record:
    """What a reader of the scores has to know of a reward: its unit, its direction, and what exactly scored."""
    card = reward.card
    return {
        "name": card.name,
        "version": card.version,
        "summary": card.summary,
        "unit": card.unit,
        "bounds": list(card.bounds),
        "higher_is_better": card.higher_is_better,
        "train_scale": card.train_scale,
        "licence": card.licence,
        "spec": reward.spec.to_json(),
        "provenance": dict(reward.provenance),
    }


def read_record(folder: Path) -> Record:
    """run.json of a results folder, in the present form.

    Raises:
        UsageError: there is none, one of something else than an evaluation, or of a newer version of the program.
    """
    check_folder(folder)
    path = folder / RECORD_FILE
    try:
        return read_run_record(path, EVALUATION)
    except FileNotFoundError:
        raise UsageError(
            f"{folder} holds no {RECORD_FILE}; name a folder that `dgpo eval --output` has written."
        ) from None
    except OtherKind:
        raise UsageError(
            f"{folder} is not a folder of evaluation results: its {RECORD_FILE} belongs to something else."
        ) from None
    except ValueError as error:
        raise UsageError(
            f"{path} is not readable as JSON of an evaluation ({error}); evaluate again into another folder."
        ) from error


def write_record(folder: Path, record: Record) -> None:
    write_json(folder / RECORD_FILE, record)


def amend_record(old: Record, new: Record) -> Record:
    """The new record, with the seeds and rewards that the folder already holds kept beside its own.

    How its images were drawn stays as it was recorded: an older folder, which names no precision, does not get one.
    """
    drawn = {name: old.get(name) for name in DRAWN_BY if name in {*old, *new}}
    return {
        **new,
        **drawn,
        "seeds": sorted({*old["seeds"], *new["seeds"]}),
        "rewards": {**old["rewards"], **new["rewards"]},
    }


def refuse_other_run(folder: Path, old: Record, new: Record) -> None:
    """UsageError if a folder's results were made by another model, suite, sampler, precision or source of images.

    A model is known by the contents of what it is made from, so one that has moved is the same.
    """
    differences = [
        f"its {what} is {_brief(theirs)}, and this run's is {_brief(ours)}"
        for (what, theirs), ours in zip(_identity(old).items(), _identity(new).values(), strict=True)
        if theirs != ours
    ]
    differences += _other_model(old, new)
    there, here = precision_of(old), precision_of(new)
    known = there is not None and here is not None and there != here
    if known:
        differences.append(f"its images are drawn in {there}, and this run's in {here}")
    if differences:
        asked = (old.get("precision") or {}).get("dtype", there)
        raise UsageError(
            f"{folder} holds the results of another run: {'; '.join(differences)}."
            f" {f'Go on in that precision with --dtype {asked}, choose' if known else 'Choose'} another --output, or"
            " delete that folder first."
        )


def unrecorded_contents(old: Record, new: Record) -> list[str]:
    """What an older record does not know of its model and a newer one does."""
    return [CONTENTS[name] for name in _contents(new) if name not in _contents(old)]


def rescored_rewards(old: Record, new: Record) -> dict[str, str]:
    """The rewards whose engine or weights changed since the folder was written, each with a sentence about it."""
    changed = {}
    for key, reward in new["rewards"].items():
        before = old["rewards"].get(key)
        if before is not None and before["provenance"] != reward["provenance"]:
            changed[key] = (
                f"{key} is now scored by {_brief(reward['provenance'])}; the folder's scores of it came from"
                f" {_brief(before['provenance'])} and are made again."
            )
    return changed


def domain_of(reward_key: str, trained_on: Collection[str] | None) -> str:
    """`in` if this reward was part of the training mix, `out` if not, `none` for a model that no reward trained."""
    if trained_on is None:
        return "none"
    return "in" if reward_key in trained_on else "out"


def _identity(record: Record) -> dict[str, Any]:
    return {
        "name": record["run"],
        "suite": f"{record['suite']['name']} ({record['suite']['sha256'][:12]})",
        "folder of images": record["images"],
        "sampler": settings_of(record),
    }


def _other_model(old: Record, new: Record) -> list[str]:
    there, here = _contents(old), _contents(new)
    if not there.keys() & here.keys() and _without_contents(old) != _without_contents(new):
        return [f"its model is {_brief(old.get('model'))}, and this run's is {_brief(new.get('model'))}"]
    return [
        f"its {CONTENTS[name]} had other contents ({theirs} there, {here[name]} here)"
        for name, theirs in there.items()
        if here.get(name, theirs) != theirs
    ]


def _contents(record: Record) -> dict[str, str]:
    """What is known of a model by its contents; an earlier version took names and sizes of the files ("files:")."""
    model = record.get("model")
    known = {name: model.get(name) for name in CONTENTS} if isinstance(model, dict) else {}
    return {name: text for name, text in known.items() if isinstance(text, str) and not text.startswith("files:")}


def _without_contents(record: Record) -> Any:
    model = record.get("model")
    return {name: model[name] for name in model if name not in CONTENTS} if isinstance(model, dict) else model


def _brief(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
