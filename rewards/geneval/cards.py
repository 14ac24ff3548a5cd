"""GenEval's two cards: the graded mark that trains, and the official verdict."""

from dataclasses import replace

from rewards.card import Card, Change, Option, WeightFile
from rewards.clip.files import clip_l14
from rewards.networks.options import NETWORK_OPTIONS

_MASK2FORMER = "mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco"
_OPEN_CLIP = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "ViT-L-14.pt")
_HUB_ONLY = ("clip/config.json", "clip/preprocessor_config.json")  # a file in open_clip's format needs neither
_GENEVAL_FILES = (
    WeightFile(
        f"{_MASK2FORMER}_20220504_001756-743b7d99.pth",
        url=f"https://download.openmmlab.com/mmdetection/v2.0/mask2former/{_MASK2FORMER}/"
        f"{_MASK2FORMER}_20220504_001756-743b7d99.pth",
        sha256="743b7d99",  # mmdet puts the beginning into the name
        aliases=("*.pth",),
    ),
    WeightFile("arch.json", required=False),
    WeightFile(f"{_MASK2FORMER}.py", required=False, aliases=("*.py",)),
    *(
        replace(file, aliases=(*file.aliases, *_OPEN_CLIP, *(f"clip/{name}" for name in _OPEN_CLIP)))
        if file.required and file.path not in _HUB_ONLY
        else replace(file, required=False, aliases=() if file.path in _HUB_ONLY else (file.path[len("clip/") :],))
        for file in clip_l14("clip", text=True)
    ),
)
_GENEVAL_OPTIONS = (
    Option(
        "detector", "native", ("native", "mmdet"),
        "native: through transformers; mmdet: an installed mmdet 2.x or 3.x, with its config (*.py) beside the weights",
    ),
    Option(
        "channels", "official", ("official", "swapped"),
        "swapped: the detector sees blue for red, as in the published training code",
    ),
    Option(
        "activation", "quickgelu", ("quickgelu", "gelu"),
        "of the CLIP that tells colours: quickgelu as OpenAI trained it; gelu as newer open_clip runs it unless told, "
        "and so, it seems, did the published training code",
    ),
    Option(
        "trial", "drawn", None,
        "pictures in one of which the detector must find an object before a training begins: drawn (here), none, or a "
        "folder of photographs",
    ),
    *NETWORK_OPTIONS,
)  # fmt: skip
_GENEVAL_WEIGHTS = (
    "--weights {name}=DIR: one .pth of mmdet 2.x or 3.x; arch.json where it is not the published Swin-S; and OpenAI's "
    "CLIP ViT-L/14: clip/, its hub folder, or a plain state dict in open_clip's format (open_clip_model.safetensors, "
    "open_clip_pytorch_model.bin or ViT-L-14.pt), there or in clip/."
)
_GENEVAL_LICENCE = "Apache-2.0 (mmdet's checkpoint), MIT (CLIP)"

_UNPUBLISHED = (
    "nobody has published a verdict on any picture, and drawings of plain objects cannot prove a detector; what can be "
    "known here is whether its files are the published ones (above) and what it finds"
)

CARDS: tuple[Card, ...] = (
    Card(
        name="geneval",
        version=1,
        unit="mean mark",
        bounds=(None, 1.0),
        higher_is_better=True,
        train_scale=1.0,
        licence=_GENEVAL_LICENCE,
        extra="openclip",
        summary="GenEval for training: how nearly the objects found have the asked counts, colours and places; graded, "
        "negative where there are far too many; tables of papers count geneval-official",
        options=(
            Option(
                "rules",
                "graded",
                ("graded", "fixed"),
                "graded: as published, oddities included; fixed: ours, without them, from 0 to 1",
                changes=(("fixed", Change(bounds=(0.0, 1.0))),),
            ),
            *_GENEVAL_OPTIONS,
        ),
        weights=_GENEVAL_WEIGHTS.format(name="geneval"),
        entry="rewards.geneval.reward:GenEval",
        unpublished=_UNPUBLISHED,
        files=_GENEVAL_FILES,
    ),
    Card(
        name="geneval-official",
        version=1,
        unit="share correct",
        bounds=(0.0, 1.0),
        higher_is_better=True,
        train_scale=1.0,
        licence=_GENEVAL_LICENCE,
        extra="openclip",
        summary="GenEval's official verdict, 1 or 0 an image: every object asked for is there, as asked (arXiv "
        "2310.11513); a paper's Overall is the mean of its six tasks' accuracies",
        options=_GENEVAL_OPTIONS,
        weights=_GENEVAL_WEIGHTS.format(name="geneval-official"),
        entry="rewards.geneval.reward:OfficialGenEval",
        unpublished=_UNPUBLISHED,
        files=_GENEVAL_FILES,
    ),
)
