"""Check a reward on this machine: are its weights the published ones, do they load, does it give published numbers?

What cannot be checked is said in as many words; silence would read as a success.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rewards.card import Card, WeightFile
from rewards.errors import SetupError
from rewards.parse import make_spec
from rewards.prompt import Prompt
from rewards.registry import load
from rewards.remote.address import is_address
from rewards.reward import Reward
from rewards.spec import RewardSpec
from rewards.trust.examples import (
    EXAMPLES,
    HALVES,
    UNPUBLISHED,
    Example,
    draw_halves,
    find_examples,
    find_picture,
    read_drawn_word,
)
from rewards.weights.folder import compare, locate

# failed: a number or hash is off. lacking: weights, pictures or a library are not here. differs: by the user's choice.
Result = Literal["ok", "failed", "lacking", "differs", "not checked"]
GENEVAL = ("geneval", "geneval-official")
_EXACT = 1e-6


@dataclass(frozen=True)
class Finding:
    """One line: which reward, what was looked at, how it came out, and in words what was found."""

    reward: str
    what: str
    result: Result
    words: str


def check(
    spec: RewardSpec, card: Card, pictures: Path | None = None, examples: Sequence[Example] = EXAMPLES
) -> list[Finding]:
    """All that can be checked of one reward, and what could not be.

    Args:
        pictures: folder with the published pictures; otherwise they come from the cache or are downloaded into it. For
            GenEval, any photographs; otherwise they are drawn.
    """
    if spec.source is not None and is_address(spec.source):
        words = f"{card.key} is checked where it runs: dgpo rewards check {card.name}, on the machine of its server"
        return [Finding(spec.key, "served", "not checked", words)]
    findings = _check_rules(spec) if spec.name in GENEVAL else []
    try:
        files = {} if _is_judged(spec) else locate(card, spec.weights)
    except SetupError as error:
        return [*findings, Finding(spec.key, "weights", "lacking", str(error))]
    findings += [_check_file(spec, file, files[file.path]) for file in card.files if file.path in files]
    try:
        reward = load(spec)
    except SetupError as error:
        return [*findings, Finding(spec.key, "loading", "lacking", str(error))]
    if files:
        findings.append(Finding(spec.key, "loading", "ok", "the files fit the network, key by key"))
    if spec.name in GENEVAL:
        return [*findings, *_check_sight(spec, reward, pictures)]
    if spec.name == "unifiedreward":
        findings.append(_check_reply(spec, reward))
    published = find_examples(examples, spec.name, spec.version)
    if not published:
        return [*findings, _check_drawn(spec, reward, files)]
    changed = [finding.what for finding in findings if finding.result in ("differs", "failed")]
    if changed:
        words = f"they belong to the published files, and these are others: {', '.join(changed)}"
        return [*findings, Finding(spec.key, "published scores", "not checked", words)]
    return [*findings, *_check_examples(spec, published, pictures)]


def _is_judged(spec: RewardSpec) -> bool:
    """Whether a server has the weights."""
    return dict(spec.options).get("judge", "none") != "none"


def _check_reply(spec: RewardSpec, reward: Reward) -> Finding:
    """Whether a model that answers in words writes a score under a picture at all."""
    who = f"the model {reward.provenance()['weights']}" if _is_judged(spec) else "the model"
    try:
        reward.verify()
    except SetupError as error:
        return Finding(spec.key, "reply", "failed", str(error))
    return Finding(spec.key, "reply", "ok", f"{who} was shown a drawn sign and wrote a score")


def _check_rules(spec: RewardSpec) -> list[Finding]:
    """What of GenEval needs no weights."""
    from rewards.geneval.prompts import METADATA_SHA256, official_prompts
    from rewards.geneval.worked_cases import work_through

    def draw() -> str:
        return f"{len(official_prompts())} are drawn as published: sha256 {METADATA_SHA256}"

    findings = []
    for what, attempt in (("rules", work_through), ("prompts", draw)):
        try:
            findings.append(Finding(spec.key, what, "ok", attempt()))
        except SetupError as error:
            findings.append(Finding(spec.key, what, "failed", str(error)))
    return findings


def _check_sight(spec: RewardSpec, reward: Reward, folder: Path | None) -> list[Finding]:
    """Whether GenEval's detector sees anything; that it sees what is there cannot be shown here."""
    from rewards.geneval.reward import GenEval
    from rewards.geneval.self_test import DRAWING, find_pictures, show_pictures

    assert isinstance(reward, GenEval)
    try:
        pictures = find_pictures(folder)
    except SetupError as error:
        return [Finding(spec.key, "detector", "lacking", str(error))]
    seen = dict(show_pictures(reward.sight, pictures))
    count = sum(map(bool, seen.values()))
    words = f"it finds something in {count} of {len(seen)} pictures"
    if folder is None:
        right = sum(name.removeprefix(DRAWING) in found for name, found in seen.items())
        words += f", and what is drawn in {right}; it has learnt from photographs, so try it on some: --pictures DIR"
    unproved = (
        "nobody has published a verdict on any picture, and drawings of plain objects cannot prove a detector; what "
        "can be known here is whether its files are the published ones (above) and what it finds"
    )
    return [
        Finding(spec.key, "detector", "ok" if count else "failed", f"{words} ({_list_sightings(seen)})"),
        Finding(spec.key, "published scores", "not checked", unproved),
    ]


def _list_sightings(seen: Mapping[str, Mapping[str, float]]) -> str:
    lines = []
    for name, found in seen.items():
        best = sorted(found, key=lambda what: found[what], reverse=True)[:3]
        lines.append(f"{name}: {', '.join(f'{what} {found[what]:.2f}' for what in best) or 'nothing'}")
    return "; ".join(lines)


def _check_file(spec: RewardSpec, file: WeightFile, path: Path) -> Finding:
    comparison = compare(path, file)
    if comparison.same is None:
        return Finding(spec.key, file.path, "not checked", comparison.words)
    if comparison.same:
        return Finding(spec.key, file.path, "ok", f"as published: {comparison.words}")
    words = f"differs from the published file: {comparison.words}"
    if spec.weights is not None:
        return Finding(spec.key, file.path, "differs", words)
    return Finding(spec.key, file.path, "failed", f"{words}; get it again: dgpo rewards fetch {spec.name}")


def _check_examples(spec: RewardSpec, examples: Sequence[Example], folder: Path | None) -> list[Finding]:
    findings = []
    for example in examples:
        try:
            path = find_picture(example, folder)
        except SetupError as error:
            findings.append(Finding(spec.key, example.picture, "lacking", str(error)))
        else:
            findings.append(_check_example(_settle(spec, example), example, path))
    return findings


def _check_example(spec: RewardSpec, example: Example, path: Path) -> Finding:
    from PIL import Image

    from rewards.pool import score_batch

    with Image.open(path) as image:
        score = score_batch({spec.key: load(spec)}, [image], [Prompt(example.prompt)]).scores[spec.key][0]
    if score.value is None:
        return Finding(spec.key, example.picture, "failed", score.reason)
    right = abs(score.value - example.score) <= example.tolerance
    words = f"{score.value:.4f}; published {example.score:.4f} +- {example.tolerance:g} ({example.source})"
    return Finding(spec.key, example.picture, "ok" if right else "failed", words)


def _settle(spec: RewardSpec, example: Example) -> RewardSpec:
    """The spec with the options that the published score was made with; the others stay as given."""
    options = {**dict(spec.options), **dict(example.options)}
    return replace(make_spec(spec.name, spec.version, options.items(), 1.0), weights=spec.weights)


def _check_drawn(spec: RewardSpec, reward: Reward, files: Mapping[str, Path]) -> Finding:
    """For rewards that no published score is known of: a picture drawn here, or the reason why there is none."""
    if spec.name in HALVES:
        value = reward.score([draw_halves()], [Prompt("")])[0].value
        right = value is not None and abs(value - HALVES[spec.name]) <= _EXACT
        words = f"{value} for a picture half black and half white; by hand {HALVES[spec.name]}"
        return Finding(spec.key, "drawn picture", "ok" if right else "failed", words)
    if spec.name in ("ocr", "ocr-strict"):
        try:
            return Finding(spec.key, "drawn word", "ok", read_drawn_word(reward))
        except SetupError as error:
            return Finding(spec.key, "drawn word", "failed", str(error))
    words = UNPUBLISHED.get(spec.name, "no published score is known here")
    if spec.name == "pickscore":
        words += f"; the file's exp(logit_scale) is {_read_logit_scale(files):.2f}"
    return Finding(spec.key, "published scores", "not checked", words)


def _read_logit_scale(files: Mapping[str, Path]) -> float:
    from safetensors import safe_open

    with safe_open(files["model.safetensors"], framework="np") as state:
        return math.exp(float(state.get_tensor("logit_scale")))
