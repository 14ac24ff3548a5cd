"""ImageReward's card."""

from rewards.card import Card, Example, WeightFile
from rewards.networks.options import NETWORK_OPTIONS

_IMAGEREWARD = ("zai-org/ImageReward", "5736be03b2652728fb87788c9797b0570450ab72")
_IMAGEREWARD_SHA = "d71dc8d4912bc633c06ab8ef1ef6a81e8199d4369f14b47b29baf1d19de561f6"
_BERT = ("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594")
_BERT_SHA = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
_IMAGEREWARD_FILES = (
    WeightFile("ImageReward.pt", *_IMAGEREWARD, "ImageReward.pt", "", 1786880927, _IMAGEREWARD_SHA),
    WeightFile("med_config.json", *_IMAGEREWARD, "med_config.json", "", 485),
    WeightFile("vocab.txt", *_BERT, "vocab.txt", "", 231508, _BERT_SHA),
)


def _example(number: int, score: float, sha256: str) -> Example:
    return Example(
        f"https://raw.githubusercontent.com/zai-org/ImageReward/main/assets/images/{number}.webp",
        sha256,
        score,
        0.01,
        "README of zai-org/ImageReward",
        "a painting of an ocean with clouds and birds, day time, low depth field effect",
    )


_EXAMPLES = (
    _example(1, 0.5811622738838196, "a5fcd126763da8b3fe2a9e620fc1ba03d215d20de36c77bf6770a540a9bc972d"),
    _example(2, 0.2745276093482971, "dc13919a49a37987d19c8be3ba0c1ef2941570f820f90fb66ac91a9a9db24082"),
    _example(3, -1.4131819009780884, "ee859bac167e6a04cbcde63454757b6fc7d9b8704429c15725ca8c4accf176e3"),
    _example(4, -2.029569625854492, "84faf59d59d9ca7ab298c9acb957d727365ae104768ac1a1ec55ab96be68aaf9"),
)

CARDS: tuple[Card, ...] = (
    Card(
        name="imagereward",
        version=1,
        unit="standard deviations over its training prompts",
        bounds=(None, None),
        higher_is_better=True,
        train_scale=1.0,
        licence="Apache-2.0 (weights and BERT vocabulary)",
        extra=None,
        summary="how people would rate the image for the prompt: a BLIP cross-encoder (arXiv 2304.05977)",
        options=NETWORK_OPTIONS,
        weights="--weights imagereward=DIR: ImageReward.pt, med_config.json and vocab.txt (of bert-base-uncased).",
        entry="rewards.imagereward.reward:ImageReward",
        examples=_EXAMPLES,
        files=_IMAGEREWARD_FILES,
    ),
)
