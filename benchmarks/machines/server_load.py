"""A reward server under load and under attack: are the scores right, how fast, in how much memory?

    python -m benchmarks.machines.server_load [--clients 64] [--calls 8] [--images 4] [--reward SPEC ...]
                               [--weights NAME=DIR ...] [--queue N] [--seed N]

Starts `dgpo serve` on the loopback in a process of its own. First every client, a thread with a connection of its own,
has small batches scored by every reward; each score has to equal the one made in this process. Then the requests of
`attacks`: each has to be refused (4xx) in bounded memory and time, and a sound request scored after it.
Without --reward: imagestats.edges, and aesthetic with small random weights. Exit code 4 where something is not so.
"""

import argparse
import itertools
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machines.attacks import Attack, list_attacks
from benchmarks.machines.random_checkpoints import write_checkpoint
from benchmarks.reading.markdown import render_markdown
from rewards.errors import DgpoError, SetupError
from rewards.exits import GATE_FAILED
from rewards.numbers import NONE
from rewards.parse import parse_rewards
from rewards.pool import score_batch
from rewards.prompt import Prompt
from rewards.registry import load
from rewards.remote.client import ServedReward, connect, forget_servers
from rewards.remote.connection import Connection
from rewards.spec import RewardSpec

REQUEST_SECONDS = 3
HELD_MB = 128
LARGEST_MB = HELD_MB + 64
SLOWEST_S = 15.0
# Share of the scores' spread by which another batch may move a score in fp32.
SPLIT = 1e-5


@dataclass(frozen=True)
class Picture:
    """One image with its prompt, and its score by each reward's key, made in this process."""

    image: Image.Image
    prompt: Prompt
    scores: Mapping[str, float]


@dataclass
class Load:
    """What clients saw: seconds of each call, images judged, the largest difference as a share of the spread."""

    seconds: list[float] = field(default_factory=list)
    images: int = 0
    failed: int = 0
    difference: float = 0.0
    elapsed: float = 0.0
    counts: dict[str, float] = field(default_factory=dict)

    @property
    def right(self) -> bool:
        return self.failed == 0 and self.images > 0 and self.difference <= SPLIT


@dataclass(frozen=True)
class Outcome:
    """One attack: statuses with how often, seconds, the server's memory (MB) before, after and at its peak."""

    name: str
    statuses: Mapping[int, int]
    seconds: float
    memory: tuple[float, float, float]
    right_after: bool
    fine: tuple[int, ...] = ()

    @property
    def good(self) -> bool:
        refused = all(400 <= status < 500 or status in self.fine for status in self.statuses)
        bounded = self.memory[2] - self.memory[0] <= LARGEST_MB and self.seconds <= SLOWEST_S
        return refused and bounded and self.right_after


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print two Markdown tables; progress goes to stderr."""
    chosen = _parse(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="dgpo-load-") as folder:
            words = _words(chosen.reward, chosen.weights, Path(folder))
            specs = parse_rewards(words[0], weights=words[1])
            pictures = draw_pictures(specs, 64, chosen.seed)
            loads = {}
            for queue in (1024, chosen.queue):
                with running(*words, limits=[f"queue_images={queue}"]) as (_, base):
                    _say(f"{chosen.clients} clients, a queue of {queue} images")
                    loads[queue] = press(base, specs, pictures, chosen.clients, chosen.calls, chosen.images)
            narrow = [f"request_seconds={REQUEST_SECONDS}", f"held_bytes={HELD_MB * 2**20}"]
            with running(*words, limits=narrow) as (process, base):
                outcomes = attack(process.pid, base, specs, pictures, list_attacks(base, specs[0].key, chosen.seed))
    except DgpoError as error:
        _say(str(error))
        raise SystemExit(error.exit_code) from error
    print(render_loads(loads, specs, chosen.clients, chosen.images), render_outcomes(outcomes), sep="\n\n")
    if not (all(one.right for one in loads.values()) and all(one.good for one in outcomes)):
        raise SystemExit(GATE_FAILED)


def draw_pictures(specs: Sequence[RewardSpec], count: int, seed: int) -> list[Picture]:
    """Images of smooth noise in several sizes, scored here."""
    source = np.random.default_rng(seed)
    sizes = [(96, 64), (128, 128), (160, 96), (64, 192)]
    images = []
    for _, (width, height) in zip(range(count), itertools.cycle(sizes), strict=False):
        rough = Image.fromarray(source.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        images.append(rough.resize((width, height), Image.Resampling.BICUBIC))
    prompts = [Prompt(f'a sign that says "WORD {number}"') for number in range(count)]
    scores = score_batch({spec.key: load(spec) for spec in specs}, images, prompts).scores
    values = [{key: column[row].value for key, column in scores.items()} for row in range(count)]
    if any(value is None for row in values for value in row.values()):
        raise SetupError("These rewards cannot score smooth noise, which is what this measurement has scored.")
    known = [{key: value for key, value in row.items() if value is not None} for row in values]
    return [Picture(*one) for one in zip(images, prompts, known, strict=True)]


@contextmanager
def running(
    rewards: Sequence[str], weights: Sequence[str], limits: Sequence[str]
) -> Iterator[tuple[subprocess.Popen, str]]:
    """`dgpo serve` in a process of its own, and its address; ended by SIGTERM, as an operator would."""
    words = [f"--reward={one}" for one in rewards] + [f"--weights={one}" for one in weights]
    words += [f"--limit={one}" for one in limits]
    command = [sys.executable, "-m", "cli.main", "serve", "--port=0", *words]
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryFile("w+") as log:
        environment = {**os.environ, "PYTHONPATH": path}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        try:
            assert process.stdout is not None
            found = re.search(r"'(http://[^/]+)/", process.stdout.readline())
            if found is None:
                log.seek(0)
                raise SetupError(f"dgpo serve did not start:\n{log.read()}")
            forget_servers()
            _wait_until_ready(Connection(found[1]))
            yield process, found[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            forget_servers()


def press(
    base: str, specs: Sequence[RewardSpec], pictures: Sequence[Picture], clients: int, calls: int, images: int
) -> Load:
    """Let clients call at the same time, each in its own order, each by every reward in turn."""
    served = parse_rewards([f"{base}/{spec.key}" for spec in specs])
    spreads = {spec.key: _spread([picture.scores[spec.key] for picture in pictures]) for spec in specs}
    result, lock, start = Load(), threading.Lock(), threading.Barrier(clients + 1)

    def call(number: int) -> None:
        rewards = [load(spec) for spec in served]
        for reward in rewards:
            assert isinstance(reward, ServedReward)
            reward.connection = Connection(base)
        order = np.random.default_rng(number).permutation(len(pictures))
        start.wait()
        for turn in range(calls):
            reward = rewards[(number + turn) % len(rewards)]
            chosen = [pictures[order[(turn * images + place) % len(pictures)]] for place in range(images)]
            began = time.perf_counter()
            scores = reward.score([one.image for one in chosen], [one.prompt for one in chosen])
            seconds = time.perf_counter() - began
            with lock:
                result.seconds.append(seconds)
                for score, one in zip(scores, chosen, strict=True):
                    result.images += 1
                    result.failed += score.value is None
                    if score.value is not None:
                        difference = abs(score.value - one.scores[reward.spec.key]) / spreads[reward.spec.key]
                        result.difference = max(result.difference, difference)

    with ThreadPoolExecutor(clients) as threads:
        futures = [threads.submit(call, number) for number in range(clients)]
        start.wait()
        began = time.perf_counter()
        for future in futures:
            future.result()
        result.elapsed = time.perf_counter() - began
    result.counts = _read_metrics(base)
    return result


def attack(
    pid: int, base: str, specs: Sequence[RewardSpec], pictures: Sequence[Picture], attacks: Sequence[Attack]
) -> list[Outcome]:
    """Send each attack, and a sound request after it."""
    served = [load(spec) for spec in parse_rewards([f"{base}/{spec.key}" for spec in specs])]
    spreads = {spec.key: _spread([picture.scores[spec.key] for picture in pictures]) for spec in specs}
    outcomes = []
    for number, one in enumerate(attacks):
        before = _memory(pid, fresh=True)[0]
        began = time.perf_counter()
        statuses = one.send()
        seconds = time.perf_counter() - began
        after, peak = _memory(pid)
        picture = pictures[number % len(pictures)]
        right = True
        for reward in served:
            value = reward.score([picture.image], [picture.prompt])[0].value
            known = picture.scores[reward.spec.key]
            right &= value is not None and abs(value - known) <= SPLIT * spreads[reward.spec.key]
        counted = {status: statuses.count(status) for status in sorted(set(statuses))}
        outcomes.append(Outcome(one.name, counted, seconds, (before, after, peak), right, one.fine))
        _say(f"{one.name}: {counted} in {seconds:.2f} s")
    return outcomes


def render_loads(loads: Mapping[int, Load], specs: Sequence[RewardSpec], clients: int, images: int) -> str:
    lines = []
    for queue, load_ in loads.items():
        cuts = statistics.quantiles(load_.seconds, n=20)
        speed, batch = f"{load_.images / load_.elapsed:.0f}", f"{load_.counts['batch']:.1f}"
        counts = len(load_.seconds), load_.images, speed, f"{cuts[9]:.3f}", f"{cuts[18]:.3f}", batch
        busy, difference = f"{load_.counts['busy']:.0f}", f"{load_.difference:.1e} of the spread"
        lines.append((queue, *counts, busy, load_.failed, difference))
    names = "calls", "images", "images/s", "p50 s", "p95 s", "images per batch", "429", "failed", "largest difference"
    keys = ", ".join(spec.key for spec in specs)
    title = f"{clients} clients, {images} images a call, {keys}; {os.cpu_count()} cores."
    return f"{title}\n\n{render_markdown(('queue', *names), lines)}".rstrip()


def render_outcomes(outcomes: Sequence[Outcome]) -> str:
    lines = []
    for one in outcomes:
        statuses = ", ".join(
            f"{status} x{times}" if times > 1 else str(status) for status, times in one.statuses.items()
        )
        memory = [f"{value:.0f}" for value in one.memory]
        lines.append((one.name, statuses or NONE, f"{one.seconds:.2f}", *memory, "yes" if one.right_after else "NO"))
    head = "attack", "answered", "s", "MB before", "after", "peak", "right after"
    return render_markdown(head, lines).rstrip()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.machines.server_load", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--calls", type=int, default=8, help="calls a client")
    parser.add_argument("--images", type=int, default=4, help="images a call")
    parser.add_argument("--queue", type=int, default=64, help="images that wait at most, in the second measurement")
    parser.add_argument("--reward", action="append", metavar="SPEC")
    parser.add_argument("--weights", action="append", metavar="NAME=DIR", default=[])
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def _words(rewards: list[str] | None, weights: list[str], folder: Path) -> tuple[list[str], list[str]]:
    if rewards:
        return rewards, weights
    return ["imagestats.edges", "aesthetic"], [f"aesthetic={write_checkpoint('aesthetic', folder / 'aesthetic')}"]


def _wait_until_ready(connection: Connection) -> None:
    connection.ask("GET", "/health", 60.0)


def _read_metrics(base: str) -> dict[str, float]:
    """Mean images per batch, and how many requests met a full queue."""
    text = connect(base).ask("GET", "/metrics").text
    values = [float(value) for value in re.findall(r"^dgpo_batch_images_sum\{.*\} (\S+)$", text, re.M)]
    counts = [float(value) for value in re.findall(r"^dgpo_batch_images_count\{.*\} (\S+)$", text, re.M)]
    busy = re.search(r'^dgpo_requests_total\{path="/v1/score",status="429"\} (\S+)$', text, re.M)
    return {"batch": sum(values) / max(sum(counts), 1), "busy": float(busy[1]) if busy else 0.0}


def _memory(pid: int, *, fresh: bool = False) -> tuple[float, float]:
    """Resident memory of a process and its peak, in MB; `fresh` lets the peak start anew. Linux only, else 0."""
    try:
        if fresh:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0, 0.0
    now, peak = (re.search(rf"^{name}:\s+(\d+) kB", status, re.M) for name in ("VmRSS", "VmHWM"))
    return (int(now[1]) / 1024 if now else 0.0), (int(peak[1]) / 1024 if peak else 0.0)


def _spread(values: Sequence[float]) -> float:
    return max(max(values) - min(values), 1e-12)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
