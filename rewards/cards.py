"""The table of rewards: every judge that comes with the package, as its card; none is loaded for it."""

from dataclasses import replace

from rewards.card import Card, Option, WeightFile

_OCR_OPTIONS = (
    Option("engine", "rapidocr", ("rapidocr", "paddleocr"), "which program reads the image"),
    Option("weights", "v6", ("v6", "v4"), "PP-OCRv6 small or PP-OCRv4 mobile, where no --weights folder is given"),
    Option("detect", "true", ("true", "false"), "find the lines first; false: the whole image is one line of text"),
    Option("padding", "320", ("320", "none"), "width a short line is filled up to; none: faster, not as released"),
    Option(
        "channels", "rgb", ("rgb", "bgr"), "array order handed to the engine, which takes it for bgr (rgb: as released)"
    ),
)
_OCR_WEIGHTS = (
    "v6: in the wheel of rapidocr. v4: in the wheel of rapidocr_onnxruntime, pip install 'dgpo[demo]'. "
    "--weights ocr=DIR: a folder with a detection and a recognition model (files *det*.onnx and *rec*.onnx, or folders "
    "*det* and *rec* with one .onnx each or, for engine=paddleocr, Paddle's files with inference.yml)."
)
_OCR_LICENCE = "Apache-2.0 (engines and weights)"

_NETWORK_OPTIONS = (
    Option("dtype", "fp32", ("fp32", "bf16", "fp16"), "precision of the networks; heads and similarities stay fp32"),
    Option("device", "auto", None, "auto (the GPU of this process where there is one), cpu, cuda or cuda:N"),
)

_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


def _clip_l14(folder: str, *, text: bool) -> tuple[WeightFile, ...]:
    """OpenAI's CLIP ViT-L/14 as the hub has it, in a subfolder of a reward's weights."""
    repo, revision = "openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41"
    sha = "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb"
    names = ["config.json", "preprocessor_config.json", *(_TOKENIZER_FILES if text else ())]
    network = WeightFile(
        f"{folder}/model.safetensors", repo, revision, "model.safetensors", "", 1710540580, sha,
        aliases=(f"{folder}/pytorch_model.bin",),
    )  # fmt: skip
    rest = [WeightFile(f"{folder}/{n}", repo, revision, n, required=n not in _TOKENIZER_FILES) for n in names]
    return (network, *rest)


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
        for name in _TOKENIZER_FILES
    ),
)  # fmt: skip
_IMAGEREWARD = ("zai-org/ImageReward", "5736be03b2652728fb87788c9797b0570450ab72")
_IMAGEREWARD_SHA = "d71dc8d4912bc633c06ab8ef1ef6a81e8199d4369f14b47b29baf1d19de561f6"
_BERT = ("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594")
_BERT_SHA = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
_IMAGEREWARD_FILES = (
    WeightFile("ImageReward.pt", *_IMAGEREWARD, "ImageReward.pt", "", 1786880927, _IMAGEREWARD_SHA),
    WeightFile("med_config.json", *_IMAGEREWARD, "med_config.json", "", 485),
    WeightFile("vocab.txt", *_BERT, "vocab.txt", "", 231508, _BERT_SHA),
)
_AESTHETIC_HEAD = "sac+logos+ava1-l14-linearMSE.pth"
_AESTHETIC_FILES = (
    WeightFile(
        _AESTHETIC_HEAD,
        url="https://raw.githubusercontent.com/christophschuhmann/improved-aesthetic-predictor/"
        "6934dd81792f086e613a121dbce43082cb8be85e/sac%2Blogos%2Bava1-l14-linearMSE.pth",
        size=3714759,
        sha256="21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
    ),
    *_clip_l14("clip", text=False),
)
_DEQA = ("zhiyuanyou/DeQA-Score-Mix3", "246e219b7e3bc9b5dff5269c1a8564087aefca3f")
_DEQA_SHARDS = tuple(f"model-0000{number}-of-00004.safetensors" for number in range(1, 5))
_DEQA_FILES = (
    *(WeightFile(name, *_DEQA, name) for name in ("config.json", "preprocessor_config.json", "tokenizer.model")),
    *(WeightFile(name, *_DEQA, name, required=False) for name in _DEQA_SHARDS),  # the index says which are
    WeightFile(
        "model.safetensors.index.json", *_DEQA, "model.safetensors.index.json", aliases=("model.safetensors",)
    ),
)  # fmt: skip
_UNIFIED = ("CodeGoat24/UnifiedReward-7b-v1.5", "main")  # nobody has told us its commit; a branch is no pin
_UNIFIED_SHARDS = tuple(f"model-0000{number}-of-00004.safetensors" for number in range(1, 5))
_UNIFIED_SIDE = ("added_tokens.json", "generation_config.json", "preprocessor_config.json", "chat_template.json")
_UNIFIED_FILES = (
    WeightFile(
        "model.safetensors.index.json", *_UNIFIED, "model.safetensors.index.json", aliases=("model.safetensors",)
    ),
    WeightFile("config.json", *_UNIFIED, "config.json"),
    *(
        WeightFile(name, *_UNIFIED, name, required=False)  # the index says which shards there are
        for name in (*_UNIFIED_SHARDS, *_TOKENIZER_FILES, *_UNIFIED_SIDE)
    ),
)
_UNIFIED_OPTIONS = (
    Option(
        "judge", "none", None,
        "none: the model runs here; or the address of an OpenAI-compatible server, http://HOST:PORT/v1 (dgpo[remote])",
    ),
    Option("model", "auto", None, "its name at the judge; auto: the only one there, or the judge's choice"),
    Option(
        "question", "pointwise", ("pointwise", "elements", "words", "three-scores"),
        "pointwise: one score, as DGPO and Flow-GRPO ask v1.5; elements: one score behind a list of what is there, as "
        "the authors' scripts ask v1.5 and qwen; words, three-scores: alignment, coherence and style, for qwen and 2.0",
    ),
    Option("axis", "mean", ("mean", "alignment", "coherence", "style"), "which of three scores, where three are asked"),
    Option(
        "protocol", "strict", ("strict", "published"),
        "published: the image squashed to 512 x 512 and 0 for a reply without a score, as the published numbers were "
        "made; strict: the image as it is, and such a reply is no score",
    ),
    Option(
        "double_image_token", "false", ("false", "true"),
        "true: a second image marker in the prompt, as SGLang makes of the released client's request; llava_qwen only",
    ),
    Option("max_new_tokens", "512", None, "of a reply; one that is cut before its score is no score"),
    Option("concurrency", "16", None, "requests to the judge at a time"),
    Option("deadline", "120", None, "seconds for which a judge that does not answer is tried again"),
    *_NETWORK_OPTIONS,
)  # fmt: skip
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
        for file in _clip_l14("clip", text=True)
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
    *_NETWORK_OPTIONS,
)  # fmt: skip
_GENEVAL_WEIGHTS = (
    "--weights {name}=DIR: one .pth of mmdet 2.x or 3.x; arch.json where it is not the published Swin-S; and OpenAI's "
    "CLIP ViT-L/14: clip/, its hub folder, or a plain state dict in open_clip's format (open_clip_model.safetensors, "
    "open_clip_pytorch_model.bin or ViT-L-14.pt), there or in clip/."
)
_GENEVAL_LICENCE = "Apache-2.0 (mmdet's checkpoint), MIT (CLIP)"
_HPS_FILES = (
    WeightFile(
        "HPS_v2.1_compressed.pt", "xswu/HPSv2", "697403c78157020a1ae59d23f111aa58ced35b0a", "HPS_v2.1_compressed.pt"
    ),
    WeightFile("open_clip_config.json", required=False),
)

CARDS: tuple[Card, ...] = (
    Card(
        name="ocr",
        version=1,
        unit="share of the quoted text",
        bounds=(0.0, 1.0),
        higher_is_better=True,
        train_scale=1.0,
        licence=_OCR_LICENCE,
        extra="ocr",
        summary="how much of the text in quotes can be read in the image; case, spaces and extra text do not count",
        options=_OCR_OPTIONS,
        weights=_OCR_WEIGHTS,
        entry="rewards.ocr.reward:ReleasedOcr",
    ),
    Card(
        name="ocr-strict",
        version=1,
        unit="share of the quoted text",
        bounds=(0.0, 1.0),
        higher_is_better=True,
        train_scale=1.0,
        licence=_OCR_LICENCE,
        extra="ocr",
        summary="the paper's formula to the letter: case, spaces and extra text count",
        options=_OCR_OPTIONS,
        weights=_OCR_WEIGHTS.replace("ocr=DIR", "ocr-strict=DIR"),
        entry="rewards.ocr.reward:StrictOcr",
    ),
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
        options=_NETWORK_OPTIONS,
        weights="--weights pickscore=DIR: the hub folder as it is, or its network in DIR/model and its processor in "
        "DIR/processor.",
        entry="rewards.clip.pickscore:PickScore",
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
            *_NETWORK_OPTIONS,
        ),
        weights=f"--weights aesthetic=DIR: {_AESTHETIC_HEAD} and clip/, the hub folder of CLIP ViT-L/14.",
        entry="rewards.clip.aesthetic:Aesthetic",
        files=_AESTHETIC_FILES,
        reads_prompt=False,
    ),
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
        options=_NETWORK_OPTIONS,
        weights="--weights imagereward=DIR: ImageReward.pt, med_config.json and vocab.txt (of bert-base-uncased).",
        entry="rewards.imagereward:ImageReward",
        files=_IMAGEREWARD_FILES,
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
                ("cosine", "hf-cosine", "dgpo", "diffusionnft", "torchmetrics", "paper"),
                "cosine: OpenAI's tokens and pixels, as ImageReward's repository; hf-cosine: transformers' tokens and "
                "pixels, as Flow-Factory; dgpo and diffusionnft: the logit (100 * cosine in OpenAI's models) / 30 and "
                "/ 100, of pixels resized as floats by bilinear; torchmetrics: max(100 * cosine, 0); paper (arXiv "
                "2104.08718): 2.5 * max(cosine, 0) of 'A photo depicts' and the prompt, there on ViT-B/32",
            ),
            Option("antialias", "true", ("true", "false"), "of the bilinear resize (torchvision before 0.17: false)"),
            *_NETWORK_OPTIONS,
        ),
        weights="--weights clipscore=DIR: clip/, the hub folder of CLIP ViT-L/14 with its tokenizer's files.",
        entry="rewards.clip.clipscore:ClipScore",
        files=_clip_l14("clip", text=True),
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
            *_NETWORK_OPTIONS,
        ),
        weights="--weights hpsv2=DIR: HPS_v2.1_compressed.pt, and open_clip_config.json where it is not ViT-H-14.",
        entry="rewards.clip.hpsv2:HPSv2",
        files=_HPS_FILES,
    ),
    Card(
        name="deqa",
        version=1,
        unit="points, 1 to 5",
        bounds=(1.0, 5.0),
        higher_is_better=True,
        train_scale=1 / 5,
        licence="MIT (the authors' repository; weights likewise, by third parties' word); made from LLaMA-2-7B, whose "
        "Community Licence applies where they are passed on",
        extra="vlm",
        summary="how good its technical quality is, whatever it shows: DeQA-Score, an mPLUG-Owl2 that names one of "
        "five grades (arXiv 2501.11561)",
        options=(
            Option(
                "transport",
                "lossless",
                ("lossless", "jpeg75"),
                "jpeg75: the image is made a JPEG of quality 75 first, as on the way to the reward server with which "
                "DGPO's and Flow-GRPO's numbers were made",
            ),
            *_NETWORK_OPTIONS,
        ),
        weights="--weights deqa=DIR: the hub folder as it is (model.safetensors.index.json with the files it names, or "
        "one model.safetensors). 16.4 GB on disk and with dtype=fp16, in which the authors run it; 32.8 GB with fp32.",
        entry="rewards.vlm.deqa:Deqa",
        files=_DEQA_FILES,
        disk_size=16_400_000_000,
        reads_prompt=False,
    ),
    Card(
        name="unifiedreward",
        version=1,
        unit="points, 1 to 5",
        bounds=(1.0, 5.0),
        higher_is_better=True,
        train_scale=1 / 5,
        licence="MIT (the authors' repository; the card of v1.5 was not seen); made from LLaVA-OneVision, Qwen2 and "
        "SigLIP (Apache-2.0)",
        extra=None,
        summary="how well it shows the prompt and how good it looks, in the words of a vision-language model that ends "
        "in a score: UnifiedReward, by default 7b-v1.5 (arXiv 2503.05236)",
        options=_UNIFIED_OPTIONS,
        weights="--weights unifiedreward=DIR: the hub folder as it is, of UnifiedReward-7b, -7b-v1.5 (llava_qwen), or "
        "one on Qwen2.5-VL or Qwen3-VL; `fetch` gets 7b-v1.5 from the branch main, as its commit is not known here: "
        "16.1 GB on disk and with dtype=bf16, in which it was trained and served; 32.1 GB with fp32. Or no weights and "
        "--reward-set unifiedreward.judge=http://HOST:PORT/v1 (key, if any, in DGPO_JUDGE_KEY).",
        entry="rewards.vlm.unifiedreward:UnifiedReward",
        repeatability=0.25,  # one other word, and the score it writes may be several tenths off
        files=_UNIFIED_FILES,
        disk_size=16_100_000_000,
    ),
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
            ),
            *_GENEVAL_OPTIONS,
        ),
        weights=_GENEVAL_WEIGHTS.format(name="geneval"),
        entry="rewards.geneval.reward:GenEval",
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
        files=_GENEVAL_FILES,
    ),
    Card(
        name="imagestats.dark",
        version=1,
        unit="share of pixels",
        bounds=(0.0, 1.0),
        higher_is_better=None,
        train_scale=1.0,
        licence="Apache-2.0",
        extra=None,
        summary="share of pixels with luma (0.299 R + 0.587 G + 0.114 B) / 255 below 0.1",
        options=(),
        weights="none",
        reads_prompt=False,
        entry="rewards.imagestats:DarkShare",
    ),
    Card(
        name="imagestats.edges",
        version=1,
        unit="mean Sobel gradient of luma",
        bounds=(0.0, 1.0),
        higher_is_better=None,
        train_scale=1.0,
        licence="Apache-2.0",
        extra=None,
        summary="mean of min(|Sobel gradient of luma|, 1), a step from black to white being 1",
        options=(),
        weights="none",
        reads_prompt=False,
        entry="rewards.imagestats:EdgeDensity",
    ),
    Card(
        name="imagestats.colours",
        version=1,
        unit="bits",
        bounds=(0.0, 12.0),
        higher_is_better=None,
        train_scale=1.0,
        licence="Apache-2.0",
        extra=None,
        summary="entropy of the colours: -sum p log2 p over the RGB histogram with 16 steps a channel",
        options=(),
        weights="none",
        reads_prompt=False,
        entry="rewards.imagestats:ColourEntropy",
    ),
)

BUNDLES: dict[str, tuple[str, ...]] = {"imagestats": ("imagestats.dark", "imagestats.edges", "imagestats.colours")}
