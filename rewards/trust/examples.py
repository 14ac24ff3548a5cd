"""What a reward should say of a given picture: published scores of published pictures, and pictures drawn here.

A published score proves that the weights are the right ones and that we read images, prompts and weights as the
originals do. Its picture is known by its SHA-256, so that another file of that name proves nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rewards.card import WeightFile
from rewards.errors import SetupError
from rewards.weights.folder import cache_place, compare

if TYPE_CHECKING:
    from PIL.Image import Image

    from rewards.reward import Reward

WORD = "HARBOR"


@dataclass(frozen=True)
class Example:
    """One published score: of this picture, for this prompt, with these options of the reward.

    `sha256` may be its beginning, where no more of it was written down; `source` says in words who published it.
    """

    reward: str
    version: int
    url: str
    sha256: str
    score: float
    tolerance: float
    source: str
    prompt: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @property
    def picture(self) -> str:
        return self.url.rpartition("/")[2]


def _imagereward(number: int, score: float, sha256: str) -> Example:
    return Example(
        "imagereward",
        1,
        f"https://raw.githubusercontent.com/zai-org/ImageReward/main/assets/images/{number}.webp",
        sha256,
        score,
        0.01,
        "README of zai-org/ImageReward",
        "a painting of an ocean with clouds and birds, day time, low depth field effect",
    )


def _aesthetic(name: str, score: float, sha256: str) -> Example:
    return Example(
        "aesthetic",
        1,
        f"https://raw.githubusercontent.com/chaofengc/IQA-PyTorch/main/ResultsCalibra/dist_dir/{name}.bmp",
        sha256,
        score,
        0.02,
        "the official code, as recorded by chaofengc/IQA-PyTorch (results_official.csv)",
        options=(("order", "resize-first"),),
    )


EXAMPLES: tuple[Example, ...] = (
    _imagereward(1, 0.5811622738838196, "a5fcd126763da8b3fe2a9e620fc1ba03d215d20de36c77bf6770a540a9bc972d"),
    _imagereward(2, 0.2745276093482971, "dc13919a49a37987d19c8be3ba0c1ef2941570f820f90fb66ac91a9a9db24082"),
    _imagereward(3, -1.4131819009780884, "ee859bac167e6a04cbcde63454757b6fc7d9b8704429c15725ca8c4accf176e3"),
    _imagereward(4, -2.029569625854492, "84faf59d59d9ca7ab298c9acb957d727365ae104768ac1a1ec55ab96be68aaf9"),
    _aesthetic("I03", 3.6420, "bb817e7fef614dcc"),
    _aesthetic("I04", 5.5836, "f3d685983aacd76b"),
    _aesthetic("I06", 5.0716, "726e043e99d8e072"),
    _aesthetic("I08", 4.6458, "8ad39042d7e17d6c"),
    _aesthetic("I19", 3.0889, "e0c6000652d270d1"),
)

# Why there is nothing to compare with.
UNPUBLISHED = {
    "pickscore": "its authors have published no score of any picture",
    "clipscore": "no score of any picture was published for one of its definitions",
    "unifiedreward": "its authors have published no reply to any picture",
    "hpsv2": "the one published score is of HPS v2.0 in half precision (0.2876), not of v2.1",
}

# Of a picture of 4 x 4 pixels, the left half black and the right half white: half of it is dark; the Sobel gradient is
# a whole step in the two columns at the border and 0 in the others; two colours of equal share are one bit.
HALVES = {"imagestats.dark": 0.5, "imagestats.edges": 0.5, "imagestats.colours": 1.0}


def find_picture(example: Example, folder: Path | None) -> Path:
    """The published picture: from the folder, else from the cache, else downloaded into it.

    Raises:
        SetupError: it is not in the folder, is another picture, or cannot be downloaded.
    """
    file = WeightFile(example.picture, url=example.url, sha256=example.sha256)
    if folder is not None:
        return _take(file, folder / example.picture)
    place = cache_place(file)
    if place is None or not place.is_file():
        from rewards.weights.download import download, look_up

        remote = look_up(file)
        download(remote, lambda done: None)
        place = remote.place
    return _take(file, place)


def draw_halves() -> "Image":
    """The picture that HALVES tells of."""
    from PIL import Image

    image = Image.new("RGB", (4, 4), "black")
    image.paste("white", (2, 0, 4, 4))
    return image


def draw_word(word: str = WORD) -> "Image":
    """Black letters on white, which every engine that works can read."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (256, 96), "white")
    font = ImageFont.load_default(size=44)
    ImageDraw.Draw(image).text((128, 48), word, fill="black", font=font, anchor="mm")
    return image


def read_drawn_word(reward: "Reward", word: str = WORD) -> str:
    """Have an OCR reward read a word that is drawn here; SetupError unless it reads it."""
    from rewards.prompt import Prompt

    score = reward.score([draw_word(word)], [Prompt(f'a sign that says "{word}"')])[0]
    if score.value != 1.0:
        read = score.reason or f'it read "{score.detail}"'
        raise SetupError(
            f"the engine was shown \"{word}\" and {read}: pip install --force-reinstall 'dgpo[{reward.card.extra}]'"
        )
    return f'drew "{word}" and read "{score.detail}"'


def find_examples(examples: Sequence[Example], reward: str, version: int) -> list[Example]:
    return [example for example in examples if (example.reward, example.version) == (reward, version)]


def _take(file: WeightFile, path: Path) -> Path:
    if not path.is_file():
        raise SetupError(f"{path.parent} has no {file.path}; it is published at {file.url}")
    comparison = compare(path, file)
    if comparison.same is False:
        raise SetupError(f"{path} is not the published picture ({comparison.words}); it is at {file.url}")
    return path
