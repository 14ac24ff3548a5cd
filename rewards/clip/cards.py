"""Cards of the rewards on a CLIP."""

from rewards.card import Card, Change, Example, Option, WeightFile
from rewards.clip.definitions import DEFINITIONS
from rewards.clip.files import TOKENIZER_FILES, clip_l14
from rewards.networks.options import NETWORK_OPTIONS

_PICKSCORE = ("yuvalkirstain/PickScore_v1", "a4e4367c6dfa7288a00c550414478f865b875800")
_PICKSCORE_SHA = "ef31ef6fc5ff4d9bb90dd232df4e145887ba62c5a03aa2841415f8c25f18d52e"
_PICKSCORE_FILES = (
    WeightFile(
        "model.safetensors", *_PICKSCORE, "model.safetensors", "", 3944552236, _PICKSCORE_SHA,
        aliases=("model/model.safetensors", "pytorch_model.bin", "model/pytorch_model.bin"),
    ),
    WeightFile("config.json", *_PICKSCORE, "config.json", aliases=("model/config.json",)),
    WeightFile(
        "preprocessor_config.json", *_PICKSCORE, "preprocessor_config.json",
        aliases=("processor/preprocessor_config.json",),
    ),
    *(
        WeightFile(name, *_PICKSCORE, name, required=False, aliases=(f"processor/{name}",))
        for name in TOKENIZER_FILES
    ),
)  # fmt: skip
_AESTHETIC_HEAD = "sac+logos+ava1-l14-linearMSE.pth"
_AESTHETIC_FILES = (
    WeightFile(
        _AESTHETIC_HEAD,
        url="https://raw.githubusercontent.com/christophschuhmann/improved-aesthetic-predictor/"
        "6934dd81792f086e613a121dbce43082cb8be85e/sac%2Blogos%2Bava1-l14-linearMSE.pth",
        size=3714759,
        sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
    ),
    *clip_l14("clip", text=False),
)
_HPS_FILES = (
    WeightFile(
        "HPS_v2.1_compressed.pt", "xswu/HPSv2", "697403c78157020a1ae59d23f111aa58ced35b0a", "HPS_v2.1_compressed.pt"
    ),
    WeightFile("open_clip_config.json", required=False),
)


def _example(name: str, score: float, sha256: str) -> Example:
    return Example(
        f"https://raw.githubusercontent.com/chaofengc/IQA-PyTorch/main/ResultsCalibra/dist_dir/{name}.bmp",
        sha256,
        score,
        0.02,
        "the official code, as recorded by chaofengc/IQA-PyTorch (results_official.csv)",
        options=(("order", "resize-first"),),
    )


_AESTHETIC_EXAMPLES = (
    _example("I03", 3.6420, "bb817e7fef614dcc"),
    _example("I04", 5.5836, "f3d685983aacd76b"),
    _example("I06", 5.0716, "726e043e99d8e072"),
    _example("I08", 4.6458, "8ad39042d7e17d6c"),
    _example("I19", 3.0889, "e0c6000652d270d1"),
)

CARDS: tuple[Card, ...] = (
    Card(
        name="pickscore",
        version=1,
        unit="logit (exp(logit_scale) * cosine)",
        bounds=(None, None),
        higher_is_better=True,
        train_scale=1 / 26,
        licence="weights: none stated on the hub page (the authors' code is MIT)",
        extra=None,
        summary="which image people would pick for the prompt: CLIP-H/14 tuned on Pick-a-Pic (arXiv 2305.01569)",
        options=NETWORK_OPTIONS,
        weights="--weights pickscore=DIR: the hub folder as it is, or its network in DIR/model and its processor in "
        "DIR/processor.",
        entry="rewards.clip.pickscore:PickScore",
        unpublished="its authors have published no score of any picture",
        files=_PICKSCORE_FILES,
    ),
    Card(
        name="aesthetic",
        version=1,
        unit="points, about 1 to 10",
        bounds=(None, None),
        higher_is_better=True,
        train_scale=1.0,
        licence="Apache-2.0 (predictor), MIT (CLIP)",
        extra=None,
        summary="how much people like its look, whatever the prompt: LAION's linear predictor on CLIP-L/14",
        options=(
            Option(
                "order",
                "rgb-first",
                ("rgb-first", "resize-first"),
                "convert to RGB, then resize (as Flow-GRPO and DGPO do), or the other way round (as LAION did); they "
                "differ for images with transparency or a palette, and for some sizes by one pixel of crop",
            ),
            *NETWORK_OPTIONS,
        ),
        weights=f"--weights aesthetic=DIR: {_AESTHETIC_HEAD} and clip/, the hub folder of CLIP ViT-L/14.",
        entry="rewards.clip.aesthetic:Aesthetic",
        examples=_AESTHETIC_EXAMPLES,
        files=_AESTHETIC_FILES,
        reads_prompt=False,
    ),
    Card(
        name="clipscore",
        version=1,
        unit="cosine",
        bounds=(-1.0, 1.0),
        higher_is_better=True,
        train_scale=1.0,
        licence="MIT (CLIP)",
        extra="openclip",
        summary="similarity of image and prompt in CLIP-L/14; several definitions are in use, see its options",
        options=(
            Option(
                "definition",
                "cosine",
                tuple(DEFINITIONS),
                "cosine: OpenAI's tokens and pixels, as ImageReward's repository; hf-cosine: transformers' tokens and "
                "pixels, as Flow-Factory; dgpo and diffusionnft: the logit (100 * cosine in OpenAI's models) / 30 and "
                "/ 100, of pixels resized as floats by bilinear; torchmetrics: max(100 * cosine, 0); paper (arXiv "
                "2104.08718): 2.5 * max(cosine, 0) of 'A photo depicts' and the prompt, there on ViT-B/32",
                changes=tuple((name, Change(one.unit, one.bounds)) for name, one in DEFINITIONS.items()),
            ),
            Option("antialias", "true", ("true", "false"), "of the bilinear resize (torchvision before 0.17: false)"),
            *NETWORK_OPTIONS,
        ),
        weights="--weights clipscore=DIR: clip/, the hub folder of CLIP ViT-L/14 with its tokenizer's files.",
        entry="rewards.clip.clipscore:ClipScore",
        unpublished="no score of any picture was published for one of its definitions",
        files=clip_l14("clip", text=True),
    ),
    Card(
        name="hpsv2",
        version=1,
        unit="cosine (tables print it times 100)",
        bounds=(-1.0, 1.0),
        higher_is_better=True,
        train_scale=1.0,
        licence="Apache-2.0",
        extra="openclip",
        summary="which image people would prefer for the prompt: HPS v2.1, a tuned CLIP-H/14 (arXiv 2306.09341)",
        options=(
            Option(
                "antialias",
                "true",
                ("true", "false"),
                "of the resize (the reference with torchvision before 0.17: false)",
            ),
            *NETWORK_OPTIONS,
        ),
        weights="--weights hpsv2=DIR: HPS_v2.1_compressed.pt, and open_clip_config.json where it is not ViT-H-14.",
        entry="rewards.clip.hpsv2:HPSv2",
        unpublished="the one published score is of HPS v2.0 in half precision (0.2876), not of v2.1",
        files=_HPS_FILES,
    ),
)
