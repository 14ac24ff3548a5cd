"""Cards of the rewards that ask a vision-language model."""

from rewards.card import OTHER, Card, Change, Option, WeightFile
from rewards.clip.files import TOKENIZER_FILES
from rewards.networks.options import NETWORK_OPTIONS

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
        for name in (*_UNIFIED_SHARDS, *TOKENIZER_FILES, *_UNIFIED_SIDE)
    ),
)
_UNIFIED_OPTIONS = (
    Option(
        "judge", "none", None,
        "none: the model runs here; or the address of an OpenAI-compatible server, http://HOST:PORT/v1 (dgpo[remote])",
        changes=((OTHER, Change(files=())),),
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
        changes=(("published", Change(bounds=(0.0, 6.0))),),
    ),
    Option(
        "double_image_token", "false", ("false", "true"),
        "true: a second image marker in the prompt, as SGLang makes of the released client's request; llava_qwen only",
    ),
    Option("max_new_tokens", "512", None, "of a reply; one that is cut before its score is no score"),
    Option("concurrency", "16", None, "requests to the judge at a time"),
    Option("deadline", "120", None, "seconds for which a judge that does not answer is tried again"),
    *NETWORK_OPTIONS,
)  # fmt: skip

CARDS: tuple[Card, ...] = (
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
            *NETWORK_OPTIONS,
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
        unpublished="its authors have published no reply to any picture",
        repeatability=0.25,  # one other word, and the score it writes may be several tenths off
        files=_UNIFIED_FILES,
        disk_size=16_100_000_000,
    ),
)
