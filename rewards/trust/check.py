"""Check a reward on this machine: are its weights the published ones, do they load, does it give published numbers?

What cannot be checked is said in as many words; silence would read as a success.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rewards.card import Card, Example, WeightFile
from rewards.errors import SetupError
from rewards.finding import Finding
from rewards.parse import make_spec
from rewards.pool import score_batch
from rewards.prompt import Prompt
from rewards.registry import find_class, load
from rewards.remote.address import is_address
from rewards.spec import RewardSpec
from rewards.trust.pictures import find_picture
from rewards.weights.folder import compare, locate


def check(spec: RewardSpec, card: Card, pictures: Path | None = None) -> list[Finding]:
    """All that can be checked of one reward, and what could not be.

    Args:
        card: that of the spec; its files and examples are what is published.
        pictures: folder with the published pictures; otherwise they come from the cache or are downloaded into it. A
            reward's own checks take any photographs there, where they take any.
    """
    if spec.source is not None and is_address(spec.source):
        words = f"{card.key} is checked where it runs: dgpo rewards check {card.name}, on the machine of its server"
        return [Finding(spec.key, "served", "not checked", words)]
    findings = find_class(spec).rule_checks(spec.key)
    try:
        files = locate(card, spec.weights)
    except SetupError as error:
        return [*findings, Finding(spec.key, "weights", "lacking", str(error))]
    findings += [_check_file(spec, file, files[file.path]) for file in card.files if file.path in files]
    try:
        reward = load(spec)
    except SetupError as error:
        return [*findings, Finding(spec.key, "loading", "lacking", str(error))]
    if files:
        findings.append(Finding(spec.key, "loading", "ok", "the files fit the network, key by key"))
    changed = [finding.what for finding in findings if finding.result in ("differs", "failed")]
    findings += reward.self_checks(pictures)
    if not card.examples:
        unpublished = [Finding(spec.key, "published scores", "not checked", card.unpublished)]
        return [*findings, *(unpublished if card.unpublished else ())]
    if changed:
        words = f"they belong to the published files, and these are others: {', '.join(changed)}"
        return [*findings, Finding(spec.key, "published scores", "not checked", words)]
    return [*findings, *_check_examples(spec, card.examples, pictures)]


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
