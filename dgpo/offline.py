"""The recorded source: images that `dgpo eval` left in a results folder, as the batches of a training.

Shapes: K prompts per iteration, G images of each; B images of this rank; C, H, W of the latent.

Read are `prompts.jsonl` (the prompts with their specs), `scores.csv` (which images there are, and what they were worth)
and `images/`. A score is taken over where its reward has the same key and the image is the one that was scored; every
other image is scored now.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from dgpo.batch import Batch
from dgpo.config import Config
from dgpo.noise import seeded_generator
from dgpo.parallel import Ranks
from dgpo.policy import Policy
from dgpo.prompts import PromptStream
from dgpo.source import Drawn
from rewards.errors import UsageError
from rewards.files import sha256_of
from rewards.images import read_image
from rewards.kept_prompts import PROMPTS_FILE, read_kept_prompts
from rewards.pool import Scored, ScoringPool
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.spec import RewardSpec
from rewards.tables import csv_rows, read_text

SCORES_FILE = "scores.csv"
COLUMNS = ("prompt_id", "prompt", "seed", "image", "image_sha", "reward", "score", "status", "detail")
MADE, FAILED = "ok", "failed"


@dataclass(frozen=True)
class Recorded:
    """One image of a results folder: where it lies, which it is, and its scores by the rewards' keys."""

    seed: int
    path: Path
    sha256: str
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Recording:
    """A results folder as training reads it; prompts with fewer images than a group has are left out."""

    folder: Path
    prompts: list[Prompt]
    images: Mapping[str, Sequence[Recorded]]
    """By a prompt's id, in the order of their seeds."""
    left_out: int
    """Prompts with too few images."""

    @property
    def contents(self) -> str:
        """A hash of which images there are of which prompts; their scores may be added to."""
        lines = [f"{prompt.id} {one.seed} {one.sha256}" for prompt in self.prompts for one in self.images[prompt.id]]
        return f"recorded:{sha256_of(chr(10).join(lines))}"


def read_recording(folder: Path, group_size: int) -> Recording:
    """What a results folder holds for groups of that size.

    Raises:
        UsageError: it is no results folder, or no prompt has enough images.
    """
    if not (folder / SCORES_FILE).is_file():
        raise UsageError(f"{folder} is no results folder of `dgpo eval`: it holds no {SCORES_FILE}.")
    found: dict[tuple[str, int], dict[str, dict[str, str]]] = {}
    texts: dict[str, str] = {}
    path = folder / SCORES_FILE
    for number, row in csv_rows(path, read_text(path), COLUMNS):
        if not row["image_sha"]:
            continue  # no image was made
        if not row["seed"].isdecimal():
            raise UsageError(f'{path}, line {number}: the seed "{row["seed"]}" is no whole number.')
        texts[row["prompt_id"]] = row["prompt"]
        found.setdefault((row["prompt_id"], int(row["seed"])), {})[row["reward"]] = row
    images: dict[str, list[Recorded]] = {}
    for (prompt_id, seed), rows in sorted(found.items()):
        any_row = next(iter(rows.values()))
        scores = {key: _score(row) for key, row in rows.items() if row["image_sha"] == any_row["image_sha"]}
        images.setdefault(prompt_id, []).append(Recorded(seed, folder / any_row["image"], any_row["image_sha"], scores))
    prompts = [prompt for prompt in _prompts(folder, texts) if prompt.id in images]
    kept = [prompt for prompt in prompts if len(images[prompt.id]) >= group_size]
    if not kept:
        most = max((len(some) for some in images.values()), default=0)
        raise UsageError(
            f"No prompt of {folder} has {group_size} images (group_size); the most that one has is {most}. Draw more "
            "with `dgpo eval --seeds N`, or make groups smaller with --set group_size=N."
        )
    return Recording(folder, kept, images, left_out=len(prompts) - len(kept))


def _prompts(folder: Path, texts: Mapping[str, str]) -> list[Prompt]:
    """The prompts of a folder in its suite's order; of an earlier version's folder, those that are text alone."""
    kept = read_kept_prompts(folder)
    if kept is not None:
        return kept
    prompts = [Prompt(text) for text in texts.values()]
    if [prompt.id for prompt in prompts] != list(texts):
        raise UsageError(
            f"{folder} was written by an earlier version, which did not keep what its prompts say besides their texts. "
            f"Give its `dgpo eval` again, which adds {PROMPTS_FILE}."
        )
    return prompts


def _score(row: Mapping[str, str]) -> Score:
    if row["status"] == MADE:
        return Score(float(row["score"]), row["detail"])
    return Score.failed(row["detail"] or "it has no score in the results folder")


class RecordedSource:
    """Batches of recorded images: which prompts and which of their images follows from seed and iteration alone."""

    def __init__(
        self,
        recording: Recording,
        policy: Policy,
        config: Config,
        specs: Sequence[RewardSpec],
        pool: ScoringPool,
        ranks: Ranks,
    ) -> None:
        self.recording, self.policy, self.config = recording, policy, config
        self.specs, self.pool, self.ranks = specs, pool, ranks
        self.stream = PromptStream(recording.prompts, config.seed)

    def draw(self, step: int) -> Drawn:
        """This rank's share of K x G images, encoded; scored again only where the folder has no score."""
        config, model = self.config, self.policy.model
        prompts = self.stream.take(step, config.groups)
        chosen = [one for place, prompt in enumerate(prompts) for one in self._group(step, place, prompt)]
        numbers = self.ranks.share(len(chosen))
        latents, failed, scored = [], {}, []
        shape = model.latent_shape(config.sampling.height, config.sampling.width)
        for start in range(0, len(numbers), config.rollout.micro_batch):
            some = numbers[start : start + config.rollout.micro_batch]
            images, problems = self._load(chosen, some)
            failed |= problems
            latents.append(self._encode(images, some, shape))
            made = [number for number in some if number in images]
            if made:
                owners = [prompts[number // config.group_size] for number in made]
                scored.append(self._scores([chosen[n] for n in made], [images[n] for n in made], owners))
        image_B = torch.tensor(numbers, device=model.device, dtype=torch.int64)
        x0_BCHW = torch.cat(latents) if latents else torch.empty(0, *shape, device=model.device)
        conditioning = model.encode([prompt.text for prompt in prompts])
        times = model.schedule(config.sampling, shape).times
        batch = Batch(prompts, config.group_size, image_B, x0_BCHW, conditioning, times, failed)
        return Drawn(batch, scored)

    def _group(self, step: int, place: int, prompt: Prompt) -> list[Recorded]:
        """G of a prompt's images, others in every iteration."""
        images = self.recording.images[prompt.id]
        generator = seeded_generator("recorded", self.config.seed, step, place, prompt.id)
        order = torch.randperm(len(images), generator=generator).tolist()
        return [images[number] for number in order[: self.config.group_size]]

    def _load(
        self, chosen: Sequence[Recorded], numbers: Sequence[int]
    ) -> tuple[dict[int, Image.Image], dict[int, str]]:
        """The images of these numbers, and why there is none of others."""
        images, problems = {}, {}
        for number in numbers:
            one = chosen[number]
            found = read_image(one.path)
            if found.image is None:
                problems[number] = found.problem
            elif found.sha256 != one.sha256:
                problems[number] = f"{one.path} is not the image that was scored (its SHA-256 changed)"
            else:
                images[number] = found.image
        return images, problems

    def _encode(
        self, images: Mapping[int, Image.Image], numbers: Sequence[int], shape: tuple[int, ...]
    ) -> torch.Tensor:
        """Their latents; zeros stand where there is no image, and nothing is learned from them.

        Raises:
            UsageError: the images have another size than the training's.
        """
        device = self.policy.model.device
        latents = torch.zeros(len(numbers), *shape, device=device)
        made = [place for place, number in enumerate(numbers) if number in images]
        if made:
            encoded = self.policy.model.encode_images([images[numbers[place]] for place in made])
            if encoded.shape[1:] != shape:
                width, height = images[numbers[made[0]]].size
                raise UsageError(
                    f"The images in {self.recording.folder} are {height} x {width} pixels, and this training is of "
                    f"another size; give --set sampling.height={height} --set sampling.width={width}."
                )
            latents[made] = encoded.to(device)
        return latents

    def _scores(
        self, recorded: Sequence[Recorded], images: Sequence[Image.Image], prompts: Sequence[Prompt]
    ) -> "Future[Scored]":
        """What the folder says, where it says it of all of them; otherwise they are scored now."""
        keys = [spec.key for spec in self.specs]
        if not all(key in one.scores for one in recorded for key in keys):
            return self.pool.submit(images, prompts)
        future: Future[Scored] = Future()
        scores = {key: [one.scores[key] for one in recorded] for key in keys}
        future.set_result(Scored(scores, dict.fromkeys(keys, 0.0)))
        return future
