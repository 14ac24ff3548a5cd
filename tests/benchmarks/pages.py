"""Results folders with pictures for the tests of the page, as many as asked, written by the real writers."""

import hashlib
import os
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.harness.record import write_record
from benchmarks.harness.store import FAILED, OK, Row, ScoreStore
from benchmarks.suite import Suite
from rewards.prompt import Prompt

NASTY = '</script><script>document.title="taken"</script><!-- "quoted" & <b>bold</b> \u2028 \N{PARROT} &lt;'
WORDS = ("cat", "dog", "sun", "hat", "map", "red", "tea", "box")


def make_suite(prompts: int) -> Suite:
    texts = [NASTY, *(f'a {WORDS[number % 8]} beside the sign "{number}"' for number in range(1, prompts))]
    return Suite("many", tuple(Prompt(text, {"tag": WORDS[place % 3]}) for place, text in enumerate(texts)), "by hand")


def make_pictures(folder: Path, count: int = 40, side: int = 64) -> list[tuple[Path, str]]:
    """Pictures of noise over a slope, which cost an encoder about what a photograph does; with their hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    slope = np.linspace(0, 180, side)
    made = []
    for number in range(count):
        small = generator.integers(0, 75, size=(side // 4, side // 4, 3)).repeat(4, 0).repeat(4, 1)
        pixels = (slope[:, None, None] * generator.random(3) + slope[None, :, None] * 0.3 + small).clip(0, 255)
        path = folder / f"{number}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        made.append((path, hashlib.sha256(path.read_bytes()).hexdigest()))
    return made


def write_run(
    folder: Path,
    suite: Suite,
    seeds: int,
    pictures: list[tuple[Path, str]],
    *,
    name: str,
    shift: float = 0.0,
    rewards: tuple[str, ...] = ("taste@1", "ink@1"),
    **record: object,
) -> Path:
    """A run whose score of prompt p and seed s is a fixed function, plus `shift` on every second prompt.

    The images take turns; prompt 2, seed 0 failed. The last reward only describes.
    """
    folder.mkdir(parents=True)
    cards = {
        key: {
            "name": key.partition("@")[0],
            "version": 1,
            "summary": f"what {key} measures <i>",
            "unit": "points",
            "bounds": [None, None],
            "higher_is_better": None if key == "ink@1" else True,
            "train_scale": 1.0,
            "licence": "Apache-2.0",
            "spec": {},
            "provenance": {"engine": "brass"},
        }
        for key in rewards
    }
    write_record(
        folder,
        {
            "model": {"base": "tiny"},
            "sampler": {"steps": 10, "dtype": "fp32"},
            **record,
            "schema": 1,
            "kind": "evaluation",
            "run": name,
            "suite": {
                "name": suite.name,
                "sha256": suite.sha256,
                "source": suite.source,
                "prompts": len(suite.prompts),
            },
            "seeds": list(range(seeds)),
            "images": "images",
            "trained_on": None,
            "rewards": cards,
            "finished": True,
        },
    )
    rows, suite_sha = [], suite.sha256
    for seed in range(seeds):
        for place, prompt in enumerate(suite.prompts):
            path, sha = pictures[(place + seed) % len(pictures)]
            for number, key in enumerate(rewards):
                broken = place == 2 and seed == 0
                value = (place * 37 % 101) / 100 + seed / 1000 + number + (shift * (place % 7) if place % 2 else 0)
                rows.append(
                    Row(
                        run=name,
                        suite=suite.name,
                        suite_sha=suite_sha,
                        prompt_id=prompt.id,
                        prompt=prompt.text,
                        seed=seed,
                        image=os.path.relpath(path, folder),
                        image_sha=sha,
                        reward=key,
                        score=None if broken else value,
                        status=FAILED if broken else OK,
                        detail="the judge <was> asleep" if broken else f"saw {place % 50}",
                        seconds=0.1,
                    )
                )
    ScoreStore(folder).append(rows)
    return folder
