"""`dgpo doctor`: what works on this machine, and the command for each thing that does not."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import typer

from cli.provenance import available_cores
from cli.screen import print_table, say
from dgpo.memory import total_memory
from rewards.card import Card
from rewards.errors import DgpoError, load_extra
from rewards.exits import ENVIRONMENT
from rewards.registry import broken_plugins, cards, find_card, load
from rewards.shared import held
from rewards.spec import RewardSpec
from rewards.weights.folder import format_size, tell_stand

State = Literal["ok", "missing", "hint"]

CORE = (
    "torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "pydantic", "yaml", "numpy", "pandas",
    "PIL", "matplotlib", "rapidfuzz",
)  # fmt: skip
EXTRAS = {
    "ocr": ("rapidocr", "onnxruntime"),
    "openclip": ("open_clip",),
    "paddleocr": ("paddleocr", "onnxruntime"),
    "demo": ("rapidocr", "onnxruntime", "rapidocr_onnxruntime"),
}
# What `dgpo train --reward ocr` cannot do without.
NEEDED_EXTRA, NEEDED_REWARD = "ocr", "ocr"
SMALL_MEMORY, SMALL_DISK = 4 * 2**30, 2 * 2**30
HUB_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and in words what was found or how to mend it."""

    what: str
    state: State
    text: str
    needed: bool = False


def doctor() -> None:
    """Look at this machine and say what is missing; exit 3 if `dgpo train --reward ocr` would not work."""
    findings = list(examine())
    print_table(("", "state", "found"), [(finding.what, finding.state, finding.text) for finding in findings])
    lacking = [finding.what for finding in findings if finding.needed and finding.state == "missing"]
    if lacking:
        say(f"`dgpo train --reward ocr` does not work here yet; it needs: {', '.join(lacking)}")
        raise typer.Exit(ENVIRONMENT)


def examine() -> Iterator[Finding]:
    """Everything, in the order of a first run."""
    yield _examine_python()
    packages = list(_examine_packages())
    yield from packages
    if all(finding.state == "ok" for finding in packages):
        yield _examine_torch()
        yield from _examine_gpus()
        yield _examine_precision()
        yield _examine_model()
    yield _examine_memory()
    yield _examine_disk()
    yield from _examine_extras()
    yield from _examine_rewards()
    yield from _examine_needed_reward()
    yield _examine_cv2()
    yield _examine_hub(os.environ)
    yield from examine_threads(os.environ, available_cores())


def _examine_python() -> Finding:
    return Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _examine_packages() -> Iterator[Finding]:
    absent = [module for module in CORE if not _is_installed(module)]
    if absent:
        text = f"{', '.join(absent)} not installed: pip install --upgrade --force-reinstall dgpo"
        yield Finding("packages", "missing", text, needed=True)
    else:
        yield Finding("packages", "ok", f"all {len(CORE)} of the core are installed", needed=True)


def _examine_torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", "missing", f"does not load ({error}): pip install --force-reinstall torch", needed=True)
    if torch.cuda.is_available():
        device = f"cuda ({torch.cuda.get_device_name(0)}, {torch.cuda.device_count()} of them)"
    else:
        device = "cpu; enough for the embedded model, SD3.5 needs a GPU"
    return Finding("torch", "ok", f"{torch.__version__} on {device}, {torch.get_num_threads()} threads", needed=True)


def _examine_gpus() -> Iterator[Finding]:
    """How much of each GPU's memory is taken, by whichever programs."""
    import torch

    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        text = f"{(total - free) / 2**30:.1f} of {total / 2**30:.1f} GiB are taken; nvidia-smi tells by what"
        yield Finding(f"memory of cuda:{number}", "ok", text)


def _examine_precision() -> Finding:
    """What `auto` stands for here; never a fault."""
    from cli.model import pick_device
    from dgpo.precision import AUTO, examine, settle

    return Finding("precision", "ok", f"auto is {settle(AUTO, examine(pick_device()))}")


def _examine_model() -> Finding:
    from dgpo.models.find import TINY

    if (TINY / "model_index.json").is_file():
        return Finding("model tiny", "ok", str(TINY), needed=True)
    text = f"{TINY} is missing: pip install --force-reinstall dgpo, or make it: python -m dgpo.models.tiny.pretrain"
    return Finding("model tiny", "missing", text, needed=True)


def _examine_memory() -> Finding:
    memory = total_memory()
    text = f"{memory / 2**30:.1f} GiB, {available_cores()} cores"
    if memory < SMALL_MEMORY:
        return Finding("memory", "hint", f"{text}; below 4 GiB, train with --set groups=4 and --set workers=0")
    return Finding("memory", "ok", text)


def _examine_disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    text = f"{free / 2**30:.1f} GiB free in {Path.cwd()}"
    if free < SMALL_DISK:
        return Finding("disk", "hint", f"{text}; runs are written to runs/, choose a roomier place with --output")
    return Finding("disk", "ok", text)


def _examine_extras() -> Iterator[Finding]:
    for extra, modules in EXTRAS.items():
        absent = [module for module in modules if not _is_installed(module)]
        needed = extra == NEEDED_EXTRA
        if absent:
            text = f"{', '.join(absent)} not installed: pip install 'dgpo[{extra}]'"
            yield Finding(f"extra {extra}", "missing", text, needed)
        else:
            yield Finding(f"extra {extra}", "ok", ", ".join(modules), needed)


def _examine_rewards() -> Iterator[Finding]:
    for broken in broken_plugins():
        yield Finding(f"reward {broken.name}", "hint", broken.sentence)
    for card in cards():
        yield _examine_reward(card)


def _examine_reward(card: Card) -> Finding:
    """Built, but neither read through nor run: weights can be gigabytes. Weights that were not fetched are no fault."""
    what = f"reward {card.key}"
    if card.files and tell_stand(card) != "here":
        return Finding(what, "hint", f"weights not here ({tell_stand(card)}): dgpo rewards fetch {card.name}")

    def build() -> str:
        reward = load(RewardSpec(card.name, card.version))
        words = "weights are here, and fit" if card.files else _name_engine(reward.provenance())
        takes = ", ".join(f"{format_size(one.size)} on {one.device}" for one in held())
        reward.forget()  # else all rewards that are here would be in memory at once
        return f"{words}; takes {takes}" if takes else words

    return _try(what, build, needed=card.name == NEEDED_REWARD)


def _examine_needed_reward() -> Iterator[Finding]:
    """The reward of a first run at work."""
    spec = RewardSpec(NEEDED_REWARD, find_card(NEEDED_REWARD).version)
    try:
        found = load(spec).self_checks(None)
    except DgpoError as error:
        yield Finding(f"{spec.name} at work", "missing", str(error), needed=True)
        return
    for one in found:
        state = "ok" if one.result == "ok" else "missing"
        yield Finding(f"{spec.name} at work", state, one.words, needed=True)


def _examine_cv2() -> Finding:
    return _try("cv2", lambda: f"opencv {load_extra('cv2', NEEDED_EXTRA).__version__}", needed=True)


def _examine_hub(environment: Mapping[str, str]) -> Finding:
    if environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return Finding("model hub", "ok", "not asked, as HF_HUB_OFFLINE is set; models come from folders and the cache")
    address = urlsplit(environment.get("HF_ENDPOINT", "https://huggingface.co"))
    host, port = address.hostname or "", address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((host, port), timeout=HUB_TIMEOUT_S).close()
    except OSError as error:
        text = f"{host} cannot be reached ({error}); --model tiny and local folders do without"
        return Finding("model hub", "hint", text)
    return Finding("model hub", "ok", f"{host} answers")


def examine_threads(environment: Mapping[str, str], cores: int) -> Iterator[Finding]:
    """Settings of the threads that are known to slow things down."""
    if environment.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":
        yield Finding("threads", "hint", "OMP_WAIT_POLICY=PASSIVE slows torch with two threads: unset OMP_WAIT_POLICY")
    threads = environment.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and int(threads) > cores:
        text = f"OMP_NUM_THREADS={threads} is more than the {cores} cores here: unset OMP_NUM_THREADS"
        yield Finding("threads", "hint", text)


def _try(what: str, check: Callable[[], str], needed: bool) -> Finding:
    try:
        return Finding(what, "ok", check(), needed)
    except DgpoError as error:
        return Finding(what, "missing", str(error), needed)


def _name_engine(facts: Mapping[str, str]) -> str:
    """Engine and version; checksums are for records."""
    engine, version = facts["engine"], facts["engine_version"]
    return version if version.startswith(engine) else f"{engine} {version}"


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
