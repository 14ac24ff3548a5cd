"""What a footprint comes to on a device, in words: what holds how much, and which settings make it fit."""

from collections.abc import Iterator

from dgpo.footprint import Footprint, Stage
from dgpo.precision import Quantize

GIB = 2**30
WORDS = {
    "reading prompts": "reading prompts {size} (text encoders)",
    "drawing": "drawing {images} images {size}",
    "decoding": "decoding {images} images {size}",
    "learning": "learning from {images} images {size}",
    "updating": "updating {size}",
}
SETTING = {"drawing": "rollout.micro_batch", "decoding": "rollout.micro_batch", "learning": "optimizer.micro_batch"}
"""By which a stage takes fewer images at a time."""


def describe_footprint(footprint: Footprint, room: int, device: str, ranks: int) -> list[str]:
    """Sentences: what is held, what is taken for a while, and whether `room` bytes of a device are enough for it.

    Nothing is refused: it is an estimate, and a device may be shared.
    """
    other = footprint.config.training.checkpointing is not True
    without = footprint.stage("learning", footprint.stages["learning"].images, checkpointing=other)
    word = "with" if other else "without"
    whose = "the process" if ranks == 1 else f"each of {ranks} processes"
    held = ", ".join(f"{name} {_gib(size)}" for name, size in footprint.held.items() if size >= GIB / 100)
    each = footprint.stages.items()
    stages = {name: WORDS[name].format(images=stage.images, size=_gib(stage.size)) for name, stage in each}
    stages["learning"] += f" ({_gib(without.size)} {word} training.checkpointing)"
    return [
        f"memory of {whose}, without rewards, in GiB: {held}; together {_gib(footprint.held_in_all)}",
        f"and for a while beside it: {', '.join(stages.values())}",
        _conclude(footprint, without, room, device),
    ]


def _conclude(footprint: Footprint, without: Stage, room: int, device: str) -> str:
    most = f"so it takes about {_gib(footprint.most)} at most ({footprint.largest})"
    if footprint.most > room:
        return f"{most}, and {device} has {_gib(room)}. {' '.join(_ways_out(footprint, room))}"
    enough = f"{most}, of {_gib(room)} that {device} has"
    if footprint.config.training.checkpointing is True and footprint.held_in_all + without.size <= room:
        return f"{enough}; without training.checkpointing, which costs a forward for each backward, it fits too"
    return enough


def _ways_out(footprint: Footprint, room: int) -> Iterator[str]:
    """A sentence for each stage that is too large, with the settings by which it fits."""
    training, left = footprint.config.training, room - footprint.held_in_all
    if left <= 0:
        yield f"What is held all the time is too much already: {_larger_device(footprint, -left)}."
        return
    for name in [name for name, stage in footprint.stages.items() if stage.size > left]:
        ways = []
        if name == "learning" and training.checkpointing is not True:
            images = footprint.stages[name].images
            fits = footprint.stage(name, images, checkpointing=True).size <= left
            fewer = images if fits else footprint.fitting(name, left, checkpointing=True)
            ways += [f"training.checkpointing=true{'' if fits else f' with {SETTING[name]}={fewer}'}"] if fewer else []
        fewer = footprint.fitting(name, left) if name in SETTING else 0
        ways += [f"{SETTING[name]}={fewer}"] if fewer else []
        if name == "reading prompts" and not training.offload and training.method == "lora":
            ways += ["training.offload=true"]
        lacking = footprint.stages[name].size - left
        smaller = ["a smaller sampling.height and sampling.width"] if name in SETTING else []
        yield f"For {name}: {', or '.join(ways or [*smaller, _larger_device(footprint, lacking)])}."


def _larger_device(footprint: Footprint, lacking: int) -> str:
    """The setting that leaves so many bytes more at any time, if there is one."""
    training = footprint.config.training
    ways = ["training.method=lora"] if training.method == "full" else []
    if training.method == "lora" and training.quantize == "none" and not training.offload:
        fewer: tuple[Quantize, ...] = ("int8", "nf4")
        ways += [f"training.quantize={kind}" for kind in fewer if footprint.saved_by(kind) >= lacking][:1]
    return ", or ".join([*ways, "a device with more"])


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}" if size >= GIB / 20 else f"{size / GIB:.2f}"
