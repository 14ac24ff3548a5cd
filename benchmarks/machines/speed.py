"""How fast our rewards are beside the obvious way of calling the originals, measured in one run.

    python -m benchmarks.machines.speed [--size tiny|full] [--images N] [--pairs-per-image P] [--device auto|cpu|cuda]
                               [--rounds R] [--reward NAME ...]

The obvious way, as in the scorers that come with training code: for each pair of image and prompt open the file,
prepare the image, run both towers on a batch of one in fp32; every reward has a network of its own. Ours: files decoded
ahead of the network, batches, each image and each text encoded once, one tower for the rewards that share it.

Weights are random in the published layouts ("full": the published dimensions), so the scores mean nothing, and speed
does not depend on them; both ways have to agree on every score. Each measurement has images and prompts of its own,
so that nothing is remembered from the one before.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image as PIL
from PIL.Image import Image

from benchmarks.machines.plain_scorers import PLAIN, Judge
from benchmarks.machines.random_checkpoints import Size, write_checkpoint
from benchmarks.reading.markdown import render_markdown
from rewards.errors import DgpoError
from rewards.networks.device import exactly, pick_device
from rewards.parse import parse_rewards
from rewards.pool import score_batch
from rewards.prompt import Prompt
from rewards.registry import load
from rewards.reward import Reward

Pairs: TypeAlias = list[tuple[Path, str]]
Scores: TypeAlias = dict[str, list[float]]

TOLERANCE = 1e-4  # of the larger of 1 and the score
SIDE = 512
DECODED = 64  # pairs whose images are decoded while the batch before them is scored
TOGETHER = "all of them"
_WORDS = "a an the red blue old small cat dog house lamp tree river of on under beside bright painting photo sky"


@dataclass
class Timing:
    """Seconds of each round, and the largest difference of scores."""

    plain_s: list[float] = field(default_factory=list)
    ours_s: list[float] = field(default_factory=list)
    difference: float = 0.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a Markdown table; progress goes to stderr."""
    chosen = _parse(arguments)
    try:
        device = pick_device(chosen.device)
        on_cpu = device.type == "cpu"
        count = chosen.images or (2 if chosen.size == "full" and on_cpu else 64)
        rounds = chosen.rounds or (2 if chosen.size == "full" and on_cpu else 3)
        names = list(dict.fromkeys(chosen.reward or PLAIN))
        with tempfile.TemporaryDirectory(prefix="dgpo-speed-") as folder:
            timings = measure(names, chosen.size, count, chosen.pairs_per_image, device, rounds, Path(folder))
    except DgpoError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error
    heading = (
        f"{chosen.size} random weights, {count} PNG files of {SIDE}x{SIDE}, prompts per image: "
        f"{chosen.pairs_per_image}; fp32 on {_describe(device)}; torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads; best of {rounds} rounds in alternation"
    )
    print(heading, format_table(timings, count), sep="\n\n")


def measure(
    names: Sequence[str], size: Size, count: int, per_image: int, device: torch.device, rounds: int, folder: Path
) -> dict[str, Timing]:
    """Time each reward both ways, and all of them together, after a warm-up.

    Args:
        folder: an empty one, for weights and images.

    Raises:
        SystemExit: the two ways disagree about a score.
    """
    weights = {name: _write_weights(name, folder, size) for name in names}
    plain = {name: PLAIN[name](weights[name], device) for name in names}
    ours = {name: _build(name, weights[name], device) for name in names}
    runs = [[name] for name in names] + ([list(names)] if len(names) > 1 else [])
    timings: dict[str, Timing] = {}
    seeds = iter(range(10**6))
    for run in runs:
        title = run[0] if len(run) == 1 else TOGETHER
        _progress(f"measuring {title}")
        one, other = {name: plain[name] for name in run}, {name: ours[name] for name in run}
        _time_once(one, other, draw_pairs(folder / "images", min(count, 2), per_image, next(seeds)), device)
        timings[title] = Timing()
        for _ in range(rounds):
            pairs = draw_pairs(folder / "images", count, per_image, next(seeds))
            plain_s, ours_s, difference = _time_once(one, other, pairs, device)
            timings[title].plain_s.append(plain_s)
            timings[title].ours_s.append(ours_s)
            timings[title].difference = max(timings[title].difference, difference)
    return timings


def score_one_by_one(judges: Mapping[str, Judge], pairs: Pairs, device: torch.device) -> Scores:
    with exactly(device):
        return {name: [judge(PIL.open(path), text) for path, text in pairs] for name, judge in judges.items()}


def score_in_batches(rewards: Mapping[str, Reward], pairs: Pairs) -> Scores:
    scores: Scores = {name: [] for name in rewards}
    for images, prompts in _decode_ahead(pairs):
        for name, made in score_batch(rewards, images, prompts).scores.items():
            scores[name] += [float("nan") if score.value is None else score.value for score in made]
    return scores


def compare(plain: Scores, ours: Scores) -> float:
    """The largest difference, each as a share of the larger of 1 and the score.

    Raises:
        SystemExit: it is above TOLERANCE, or a score was not made.
    """
    largest = 0.0
    for name, values in plain.items():
        for position, (one, other) in enumerate(zip(values, ours[name], strict=True)):
            difference = abs(one - other) / max(1.0, abs(one))
            if not difference <= TOLERANCE:
                raise SystemExit(f"{name}: pair {position} scores {one} one by one and {other} in a batch")
            largest = max(largest, difference)
    return largest


def draw_pairs(folder: Path, count: int, per_image: int, seed: int) -> Pairs:
    """Write `count` images that were never seen before, and pair each with `per_image` of `count` prompts."""
    folder.mkdir(exist_ok=True)
    draw, words = np.random.default_rng(seed), random.Random(seed)
    texts = [" ".join(words.choices(_WORDS.split(), k=words.randint(4, 30))) for _ in range(max(count, per_image))]
    paths = [folder / f"{number:05d}.png" for number in range(count)]
    for path in paths:
        coarse = PIL.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), PIL.Resampling.BICUBIC).save(path, compress_level=1)
    return [(path, texts[(i + j) % len(texts)]) for i, path in enumerate(paths) for j in range(per_image)]


def format_table(timings: Mapping[str, Timing], count: int) -> str:
    """Images per second by the best round of each way; noise is how much longer the worst took, for each way."""
    lines = []
    for title, timing in timings.items():
        plain, ours = min(timing.plain_s), min(timing.ours_s)
        spreads = (max(seconds) / min(seconds) - 1 for seconds in (timing.plain_s, timing.ours_s))
        noise = " / ".join(f"{spread:.0%}" for spread in spreads) if len(timing.ours_s) > 1 else "unknown"
        rates = f"{count / plain:.3g}", f"{count / ours:.3g}", f"{plain / ours:.2f}"
        lines.append((title, *rates, noise, f"{timing.difference:.0e}"))
    head = "reward", "one by one, images/s", "ours, images/s", "ratio", "noise", "largest difference"
    return render_markdown(head, lines).rstrip()


def _time_once(
    plain: Mapping[str, Judge], ours: Mapping[str, Reward], pairs: Pairs, device: torch.device
) -> tuple[float, float, float]:
    one, plain_s = _timed(lambda: score_one_by_one(plain, pairs, device))
    other, ours_s = _timed(lambda: score_in_batches(ours, pairs))
    return plain_s, ours_s, compare(one, other)


def _timed(work: Callable[[], Scores]) -> tuple[Scores, float]:
    """Scores are numbers on the CPU, so that a GPU has finished when they are there."""
    start = time.perf_counter()
    scores = work()
    return scores, time.perf_counter() - start


def _decode_ahead(pairs: Pairs) -> Iterator[tuple[list[Image], list[Prompt]]]:
    chunks = [pairs[start : start + DECODED] for start in range(0, len(pairs), DECODED)]
    with ThreadPoolExecutor(4) as threads:

        def begin(chunk: Pairs) -> dict[Path, Future[Image]]:
            return {path: threads.submit(_read, path) for path in dict.fromkeys(path for path, _ in chunk)}

        pending = begin(chunks[0])
        for place, chunk in enumerate(chunks):
            images = {path: future.result() for path, future in pending.items()}
            pending = begin(chunks[place + 1]) if place + 1 < len(chunks) else {}
            yield [images[path] for path, _ in chunk], [Prompt(text) for _, text in chunk]


def _read(path: Path) -> Image:
    image = PIL.open(path)
    image.load()
    return image


def _write_weights(name: str, folder: Path, size: Size) -> Path:
    """Aesthetic and CLIPScore get one CLIP, whichever comes first."""
    _progress(f"drawing weights of {name}")
    place, clip = folder / name, folder / "clip"
    if name in ("aesthetic", "clipscore"):
        place.mkdir()
        if not clip.exists():
            write_checkpoint("clipscore", folder, size)
        (place / "clip").symlink_to(clip)
    return write_checkpoint(name, place, size)


def _build(name: str, folder: Path, device: torch.device) -> Reward:
    (spec,) = parse_rewards([f"{name}[device={device}]"], weights=[f"{name}={folder}"])
    return load(spec)


def _describe(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.machines.speed", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--size", choices=("tiny", "full"), default="tiny", help="dimensions of the random networks")
    parser.add_argument("--images", type=_positive, metavar="N", help="a round; default 64, or 2 for full on a CPU")
    parser.add_argument("--pairs-per-image", type=_positive, metavar="P", default=1, help="prompts of each image")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--rounds", type=_positive, metavar="R", help="default 3, or 2 for full on a CPU")
    parser.add_argument("--reward", action="append", choices=list(PLAIN), help="repeatable; default: all of them")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return int(text)


if __name__ == "__main__":
    main()
