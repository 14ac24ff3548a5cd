"""Make the embedded model from drawn signs: `python -m dgpo.models.tiny.pretrain --output runs/tiny`.

Two stages, both seeded and resumable (run the same command again): an autoencoder on signs, then the denoiser with its
text encoders by rectified flow on the autoencoder's latents (Esser et al. 2024, Eq. 14). The result is
`OUTPUT/pipeline`, a diffusers folder in fp16, with `pretraining.json` saying how it was made.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusion3Pipeline
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModelWithProjection

from dgpo.models.attention import training_attention
from dgpo.models.tiny import network
from dgpo.models.tiny.signs import HEIGHT, WIDTH, draw_sign, draw_uneven_sign, random_colour, random_word
from dgpo.models.tiny.tokenizer import build_tokenizer
from dgpo.models.tiny.words import sign_prompt
from rewards.files import replacing, write_json

SAVE_EVERY = 100


@dataclass(frozen=True)
class Plan:
    """Everything that decides the weights, apart from the machine."""

    seed: int = 0
    autoencoder_steps: int = 3000
    autoencoder_batch: int = 16
    autoencoder_rate: float = 2e-3
    signs: int = 65536
    clean_steps: int = 660
    uneven_signs: int = 16384
    uneven_steps: int = 300
    bad_share: float = 0.75
    batch: int = 96
    muon_rate: float = 2e-3
    adam_rate: float = 1e-3
    warm_up: int = 100
    unconditional_share: float = 0.1
    time_shift: float = 2.0
    ema_decay: float = 0.999


class Progress:
    """One line every ten seconds: step, loss, pace, time left."""

    def __init__(self, what: str, start: int, steps: int):
        self.what, self.start, self.steps = what, start, steps
        self.began = self.said = time.monotonic()
        self.losses: list[float] = []

    def say(self, step: int, loss: float) -> None:
        self.losses.append(loss)
        now = time.monotonic()
        if now - self.said < 10 and step < self.steps:
            return
        pace = (now - self.began) / max(1, step - self.start)
        left = pace * (self.steps - step) / 60
        print(
            f"{self.what} {step}/{self.steps} loss {np.mean(self.losses):.4f} {pace:.3f} s/step, {left:.0f} min left",
            flush=True,
        )
        self.said, self.losses = now, []


Drawer = Callable[[str, str, np.random.Generator], Image.Image]


class Clock:
    """Minutes spent on a folder's model over all calls; the part of a call after its last state counts for nothing."""

    def __init__(self, folder: Path):
        self.path = folder / "minutes.json"
        self.before = json.loads(self.path.read_text()) if self.path.exists() else 0.0
        self.began = time.monotonic()

    def minutes(self) -> float:
        return self.before + (time.monotonic() - self.began) / 60

    def keep(self) -> None:
        write_json(self.path, self.minutes())


def draw_signs(count: int, rng: np.random.Generator, draw: Drawer) -> tuple[torch.Tensor, list[str]]:
    """Signs of random words and colours as uint8 [N, 3, H, W], and their prompts."""
    pixels = np.empty((count, HEIGHT, WIDTH, 3), dtype=np.uint8)
    prompts = []
    for place in range(count):
        word, colour = random_word(rng), random_colour(rng)
        pixels[place] = np.asarray(draw(word, colour, rng))
        prompts.append(sign_prompt(word, colour))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), prompts


def to_network(pixels_NCHW: torch.Tensor) -> torch.Tensor:
    return pixels_NCHW.float() / 127.5 - 1


def trapezoid(step: int, steps: int, warm_up: int) -> float:
    """Learning-rate factor: linear warm-up, flat, linear decay over the last 40 %."""
    return min(1.0, (step + 1) / warm_up, (steps - step) / max(1, 0.4 * steps))


def set_rates(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = factor * group["initial_lr"]


def save_state(path: Path, clock: Clock, **state) -> None:
    """Write, then rename: a killed run leaves the previous state whole."""
    clock.keep()
    with replacing(path) as file:
        torch.save(state, file)


def train_autoencoder(plan: Plan, folder: Path, clock: Clock, device: torch.device) -> AutoencoderKL:
    """Pixels in, pixels out, through [8, 8, 16] latents; absolute plus squared error, a whisper of KL."""
    torch.manual_seed(plan.seed)
    autoencoder = network.build_autoencoder().to(device)  # pyright: ignore[reportArgumentType]
    optimizer = torch.optim.AdamW(
        autoencoder.parameters(), lr=plan.autoencoder_rate, betas=(0.9, 0.99), weight_decay=1e-4
    )
    optimizer.param_groups[0]["initial_lr"] = plan.autoencoder_rate
    path, first = folder / "autoencoder.pt", 0
    if path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        autoencoder.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    progress = Progress("autoencoder", first, plan.autoencoder_steps)
    for step in range(first, plan.autoencoder_steps):
        rng = np.random.default_rng((plan.seed, 1, step))
        torch.manual_seed(plan.seed * 1_000_003 + step)
        pixels, _ = draw_signs(plan.autoencoder_batch, rng, draw_sign)
        x = to_network(pixels).to(device)
        set_rates([optimizer], trapezoid(step, plan.autoencoder_steps, plan.warm_up))
        with torch.autocast(device.type, torch.bfloat16):
            posterior = network.encode_pixels(autoencoder, x)
            error = network.decode_latents(autoencoder, posterior.sample()).float() - x
        loss = error.abs().mean() + error.square().mean() + 1e-5 * posterior.kl().mean() / posterior.mean[0].numel()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimizer.step()
        progress.say(step + 1, loss.item())
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == plan.autoencoder_steps:
            save_state(path, clock, model=autoencoder.state_dict(), optimizer=optimizer.state_dict(), step=step + 1)
    return autoencoder.eval().requires_grad_(False)


@dataclass(frozen=True)
class Latents:
    """Signs as the denoiser sees them: normalised latents [N, 8, 8, 16] in fp16, and token ids [N, T]."""

    x0_NCHW: torch.Tensor
    ids_NT: torch.Tensor


@torch.no_grad()
def encode_signs(count: int, stage: int, draw: Drawer, autoencoder: AutoencoderKL, plan: Plan) -> Latents:
    """Latents of `count` signs; the first call sets the autoencoder's `shift_factor` and `scaling_factor`, so that the
    latents have mean 0 and deviation 1."""
    tokenizer = build_tokenizer()
    latents, prompts = [], []
    for part in range(0, count, 1024):
        pixels, texts = draw_signs(min(1024, count - part), np.random.default_rng((plan.seed, stage, part)), draw)
        for chunk in pixels.split(128):
            x = to_network(chunk).to(autoencoder.device)
            latents.append(network.encode_pixels(autoencoder, x).mode().half().cpu())
        prompts += texts
    x0 = torch.cat(latents)
    if autoencoder.config.get("shift_factor") is None:
        sample = x0[:8192].float()
        shift, scale = round(sample.mean().item(), 5), round(1 / sample.std().item(), 5)
        autoencoder.register_to_config(shift_factor=shift, scaling_factor=scale)
    shift, scale = autoencoder.config["shift_factor"], autoencoder.config["scaling_factor"]
    x0 = ((x0.float() - shift) * scale).half()
    return Latents(x0, tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids)


class Denoiser(nn.Module):
    """The transformer and its two text encoders, trained together."""

    def __init__(self):
        super().__init__()
        tokenizer = build_tokenizer()
        self.transformer = network.build_transformer()
        self.text_encoders = nn.ModuleList([network.build_text_encoder(tokenizer) for _ in range(2)])

    def forward(self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor, ids_BT: torch.Tensor) -> torch.Tensor:
        states, pooled = network.encode_ids(self.text_encoders, ids_BT)
        return self.transformer(
            x_BCHW, encoder_hidden_states=states, pooled_projections=pooled, timestep=1000 * sigma_B
        ).sample


def build_optimizers(model: Denoiser, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the rest (Jordan et al. 2024)."""
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        inside = "transformer_blocks" in name or "encoder.layers" in name
        (matrices if inside and parameter.ndim == 2 else rest).append(parameter)
    muon = torch.optim.Muon(matrices, lr=plan.muon_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    adam = torch.optim.AdamW(rest, lr=plan.adam_rate, betas=(0.9, 0.99), weight_decay=0.0)
    for optimizer, rate in ((muon, plan.muon_rate), (adam, plan.adam_rate)):
        optimizer.param_groups[0]["initial_lr"] = rate
    return [muon, adam]


def flow_loss(
    model: Denoiser, x0: torch.Tensor, ids: torch.Tensor, empty_ids: torch.Tensor, plan: Plan
) -> torch.Tensor:
    """Mean squared velocity error at times drawn with `time_shift`; a share of the prompts is emptied for guidance."""
    u = torch.rand(len(x0), device=x0.device)
    sigma = plan.time_shift * u / (1 + (plan.time_shift - 1) * u)
    noise = torch.randn_like(x0)
    emptied = torch.rand(len(x0), device=x0.device) < plan.unconditional_share
    ids = torch.where(emptied[:, None], empty_ids, ids)
    mixed = (1 - sigma.view(-1, 1, 1, 1)) * x0 + sigma.view(-1, 1, 1, 1) * noise
    with torch.autocast(x0.device.type, torch.bfloat16):
        velocity = model(mixed, sigma, ids)
    return F.mse_loss(velocity.float(), noise - x0)


def train_denoiser(
    plan: Plan, folder: Path, clock: Clock, clean: Latents, uneven: Latents, device: torch.device
) -> Denoiser:
    """The average of a denoiser trained at a constant rate, on clean signs first and on uneven ones then."""
    torch.manual_seed(plan.seed + 1)
    model = Denoiser().to(device)
    average = Denoiser().to(device).requires_grad_(False)
    average.load_state_dict(model.state_dict())
    optimizers = build_optimizers(model, plan)
    empty_ids = build_tokenizer()([""], padding="max_length", return_tensors="pt").input_ids.to(device)
    path, first = folder / "denoiser.pt", 0
    if path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first = state["step"]
    steps = plan.clean_steps + plan.uneven_steps
    progress = Progress("denoiser", first, steps)
    for step in range(first, steps):
        torch.manual_seed(plan.seed * 1_000_003 + 500_000 + step)
        signs = clean if step < plan.clean_steps else uneven
        chosen = torch.randint(len(signs.x0_NCHW), (plan.batch,))
        x0, ids = signs.x0_NCHW[chosen].float().to(device), signs.ids_NT[chosen].to(device)
        set_rates(optimizers, min(1.0, (step + 1) / plan.warm_up))
        with training_attention(device):
            loss = flow_loss(model, x0, ids, empty_ids, plan)
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(plan.ema_decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in model.parameters()], 1 - decay)
        progress.say(step + 1, loss.item())
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            save_state(
                path,
                clock,
                model=model.state_dict(),
                average=average.state_dict(),
                optimizers=[optimizer.state_dict() for optimizer in optimizers],
                step=step + 1,
            )
    return average.eval()


def _draw_uneven(word: str, colour: str, rng: np.random.Generator, bad_share: float) -> Image.Image:
    return draw_uneven_sign(word, colour, bad_share, rng)


def export(folder: Path, autoencoder: AutoencoderKL, denoiser: Denoiser) -> None:
    """Write the diffusers folder in fp16; SD3's third text encoder (T5) is absent."""
    tokenizer = build_tokenizer()
    pipeline = StableDiffusion3Pipeline(
        transformer=denoiser.transformer,
        scheduler=network.build_scheduler(),
        vae=autoencoder,
        text_encoder=cast(CLIPTextModelWithProjection, denoiser.text_encoders[0]),
        tokenizer=tokenizer,
        text_encoder_2=cast(CLIPTextModelWithProjection, denoiser.text_encoders[1]),
        tokenizer_2=tokenizer,
        text_encoder_3=None,  # pyright: ignore[reportArgumentType]
        tokenizer_3=None,
    )
    pipeline.to(torch.float16).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pretrain the embedded model on drawn signs.")
    parser.add_argument("--output", type=Path, default=Path("runs/tiny"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--threads", type=int, default=1, help="processor threads; the shipped weights were made with 1"
    )
    for name, value in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    folder, device = arguments.pop("output"), torch.device(arguments.pop("device"))
    torch.set_num_threads(arguments.pop("threads"))
    plan = Plan(**arguments)
    folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(folder)
    autoencoder = train_autoencoder(plan, folder, clock, device)
    clean = encode_signs(plan.signs, 2, lambda word, colour, _: draw_sign(word, colour), autoencoder, plan)
    uneven = encode_signs(plan.uneven_signs, 3, partial(_draw_uneven, bad_share=plan.bad_share), autoencoder, plan)
    denoiser = train_denoiser(plan, folder, clock, clean, uneven, device)
    export(folder / "pipeline", autoencoder.cpu(), denoiser.cpu())
    record = {
        "plan": asdict(plan),
        "minutes": round(clock.minutes(), 2),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used, {device}",
        "torch": torch.__version__,
    }
    write_json(folder / "pipeline" / "pretraining.json", record)
    print(f"wrote {folder / 'pipeline'}")


if __name__ == "__main__":
    main()
