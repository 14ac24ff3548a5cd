"""Vision-language models of a folder on this machine, asked one question about one image, answering greedily.

Images are answered one by one: batches would be padded, and padding changes the last bits of the logits, so that a
word may come out differently in other company.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import init_empty_weights
from huggingface_hub.errors import StrictDataclassError
from PIL.Image import Image
from transformers import (
    AutoConfig,
    GenerationConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3VLForConditionalGeneration,
)

from rewards.errors import ScoringError, SetupError
from rewards.images import rgb
from rewards.networks import llava_onevision, qwen_vl
from rewards.networks.device import exactly
from rewards.shared import shared
from rewards.vlm.questions import IMAGE_LINE, frame
from rewards.vlm.reply import Reply
from rewards.weights.checkpoint import load_strictly, read_config, read_shards

_QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
_QWEN = {"qwen2_5_vl": Qwen2_5_VLForConditionalGeneration, "qwen3_vl": Qwen3VLForConditionalGeneration}
_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
_TURNS = ("<|im_start|>", "<|im_end|>")
# Written by some versions, computed by all.
_COMPUTED = ("rotary_emb.inv_freq", "position_ids")


class VisionLanguageModel(Protocol):
    """A network on the CPU with its tokenizer, and how an image and a question become its inputs."""

    network: PreTrainedModel
    tokenizer: Qwen2Tokenizer

    def prepare(self, image: Image, question: str, double_image_token: bool) -> dict[str, torch.Tensor]:
        """Inputs of one RGB image; call it in `exactly`, with the network where it runs."""
        ...


class Answerer:
    """One model of one folder in one precision; it is moved and cast at the first question.

    Raises:
        SetupError: the folder does not hold a model of a known kind, whole.
    """

    def __init__(self, index: Path, dtype: torch.dtype, device: torch.device) -> None:
        self.dtype, self.device = dtype, device
        self.model = _read_model(index)
        self.stops = _read_stops(index.parent, self.model.tokenizer)

    @property
    def takes_double_image_token(self) -> bool:
        """Whether a second image marker in the prompt means anything to this model."""
        return isinstance(self.model, LlavaQwen)

    @cached_property
    def network(self) -> PreTrainedModel:
        """In its place: parameters in the wanted dtype, tables of angles and positions as they were computed."""
        network = self.model.network
        with torch.inference_mode(False), torch.no_grad():
            for parameter in network.parameters():
                parameter.data = parameter.data.to(self.device, self.dtype)
            for buffer in network.buffers():
                buffer.data = buffer.data.to(self.device)
        return network

    def answer(self, image: Image, question: str, max_new_tokens: int, double_image_token: bool = False) -> Reply:
        """What the model writes, the likeliest token at each place; no penalty on repetition.

        generation_config.json of these folders asks for sampling and a repetition penalty of 1.05, which are for
        conversation; only its stop tokens are taken from there.
        """
        with exactly(self.device):
            network, inputs = self._prepare(image, question, double_image_token)
            ids = cast(Any, network).generate(**inputs, generation_config=self._greedily(max_new_tokens))
        new = cast(torch.Tensor, ids)[0, inputs["input_ids"].shape[1] if "input_ids" in inputs else 0 :].tolist()
        return Reply(self._decode(new), cut=not (new and new[-1] in self.stops))

    def logits(self, image: Image, question: str, double_image_token: bool = False) -> torch.Tensor:
        """Of the first token of an answer, over the tokenizer's vocabulary, in fp32."""
        with exactly(self.device):
            network, inputs = self._prepare(image, question, double_image_token)
            last = network(**inputs, logits_to_keep=1).logits[0, -1]
        return last[: len(self.model.tokenizer)].float().cpu()

    def _prepare(
        self, image: Image, question: str, double_image_token: bool
    ) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
        if 0 in image.size:
            raise ScoringError(f"the image is empty ({image.width} x {image.height} pixels)")
        network = self.network.eval()
        return network, self.model.prepare(rgb(image), question, double_image_token)

    def _greedily(self, max_new_tokens: int) -> GenerationConfig:
        """Rows of the vocabulary that no token has are never chosen."""
        rows, known = _embedding(self.network).weight.shape[0], len(self.model.tokenizer)
        return GenerationConfig(
            do_sample=False,
            num_beams=1,
            repetition_penalty=1.0,
            max_new_tokens=max_new_tokens,
            eos_token_id=self.stops,
            pad_token_id=self.stops[0],
            suppress_tokens=list(range(known, rows)) or None,
        )

    def _decode(self, ids: list[int]) -> str:
        return cast(str, self.model.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class LlavaQwen:
    """A llava_qwen folder: UnifiedReward-7b, -7b-v1.5 and -Think-7b."""

    def __init__(self, index: Path, config: dict[str, Any]) -> None:
        source = index.parent / "config.json"
        state = _read_renamed(index, llava_onevision.rename_key)
        described = llava_onevision.describe(config, state, source)
        self.network = _build(LlavaOnevisionForConditionalGeneration, described, source)
        load_strictly(self.network, state, index)
        self.tokenizer = _read_tokenizer(index.parent, _TURNS)
        if "<image>" not in self.tokenizer.get_vocab():
            self.tokenizer.add_tokens(["<image>"], special_tokens=True)
        _check_vocabulary(self.network, self.tokenizer, index.parent)

    def prepare(self, image: Image, question: str, double_image_token: bool) -> dict[str, torch.Tensor]:
        """Embeddings of the whole prompt, the image's between those of the text before and after it."""
        network = cast(LlavaOnevisionForConditionalGeneration, self.network)
        embed = _embedding(network)
        grid = cast(list[list[int]], network.config.image_grid_pinpoints)
        crops = llava_onevision.cut(image, grid).to(embed.weight)
        image_SD = llava_onevision.embed_image(network, crops, image.size)
        before, after = frame(IMAGE_LINE + "\0").split("<image>")
        # The second marker of the served prompt stays a token, which looks up a row that no training has touched.
        after = after.replace("\0", (IMAGE_LINE if double_image_token else "") + question)
        ids = [torch.tensor(self.tokenizer(text).input_ids, device=image_SD.device) for text in (before, after)]
        prompt_LD = torch.cat([embed(ids[0]), image_SD, embed(ids[1])])[None]
        return {"inputs_embeds": prompt_LD, "attention_mask": torch.ones_like(prompt_LD[..., 0], dtype=torch.long)}


class QwenVL:
    """A Qwen2.5-VL or Qwen3-VL folder as transformers writes it."""

    def __init__(self, index: Path, config: dict[str, Any]) -> None:
        folder = index.parent
        try:
            described = AutoConfig.from_pretrained(folder, local_files_only=True)
        except (StrictDataclassError, ValueError, TypeError, KeyError) as error:
            raise SetupError(f"{folder / 'config.json'} does not describe a Qwen-VL: {error}") from error
        state = _read_renamed(index, qwen_vl.rename_key)
        if described.tie_word_embeddings and "lm_head.weight" not in state:
            state["lm_head.weight"] = state.get("model.language_model.embed_tokens.weight", torch.empty(0))
        self.network = _build(_QWEN[config["model_type"]], described, folder / "config.json")
        load_strictly(self.network, state, index)
        self.tokenizer = _read_tokenizer(folder, (*_TURNS, "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"))
        _check_vocabulary(self.network, self.tokenizer, folder)
        preprocessor = folder / "preprocessor_config.json"
        self.eye = qwen_vl.read_eye(read_config(preprocessor), preprocessor)
        self.image_id = cast(int, self.tokenizer.convert_tokens_to_ids("<|image_pad|>"))
        if self.image_id != described.image_token_id:
            raise SetupError(
                f"The tokenizer in {folder} has <|image_pad|> at {self.image_id} and config.json at "
                f"{described.image_token_id}; take the hub folder as it is."
            )

    def prepare(self, image: Image, question: str, double_image_token: bool) -> dict[str, torch.Tensor]:
        network = self.network
        patches, grid = self.eye(image)
        text = frame(_QWEN_IMAGE + question)
        pads = int(grid.prod()) // self.eye.merge**2
        ids = torch.tensor(self.tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * pads)).input_ids)[None]
        inputs = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": torch.eq(ids, self.image_id).int(),
            "image_grid_thw": grid,
        }
        return {
            **{name: tensor.to(network.device) for name, tensor in inputs.items()},
            "pixel_values": patches.to(network.device, network.dtype),
        }


@shared
def share_answerer(index: Path, dtype: torch.dtype, device: torch.device) -> Answerer:
    """The one model of this folder in this process, on that device in that precision.

    Args:
        index: the checkpoint's *.index.json, or its one file, beside config.json and the tokenizer.
    """
    return Answerer(index, dtype, device)


def _read_model(index: Path) -> VisionLanguageModel:
    path = index.parent / "config.json"
    config = read_config(path)
    kind = config.get("model_type")
    if kind in llava_onevision.MODEL_TYPES:
        return LlavaQwen(index, config)
    if kind in qwen_vl.MODEL_TYPES:
        return QwenVL(index, config)
    known = ", ".join((*llava_onevision.MODEL_TYPES, *qwen_vl.MODEL_TYPES))
    raise SetupError(
        f'{path} describes a model of the type "{kind}"; those that run here are {known}. Serve others with vLLM or '
        "SGLang, and give the option judge=URL."
    )


def _read_renamed(index: Path, rename: Callable[[str], str]) -> dict[str, torch.Tensor]:
    return {rename(key): tensor for key, tensor in read_shards(index).items() if not key.endswith(_COMPUTED)}


def _build(kind: Any, config: Any, source: Path) -> PreTrainedModel:
    """The network without memory for its weights; what is computed rather than loaded is there."""
    try:
        with init_empty_weights(include_buffers=False):
            network = kind(config)
    except (ValueError, TypeError, KeyError) as error:
        raise SetupError(f"{source} does not describe a {kind.__name__}: {error}") from error
    network.generation_config = GenerationConfig()
    return network


def _read_tokenizer(folder: Path, markers: Sequence[str]) -> Qwen2Tokenizer:
    """A folder's tokenizer; transformers would make an empty one where its files are missing.

    Args:
        markers: what it has to know as one token each.
    """
    whole = any(all((folder / name).is_file() for name in names) for names in _VOCABULARIES)
    try:
        tokenizer = Qwen2Tokenizer.from_pretrained(folder, local_files_only=True) if whole else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SetupError(f"{folder} holds no tokenizer of a Qwen ({error}); take the hub folder as it is.") from error
    absent = [marker for marker in markers if tokenizer is None or marker not in tokenizer.get_vocab()]
    if tokenizer is None or absent:
        lack = f"it does not know {', '.join(absent)}" if whole else "no tokenizer.json, nor vocab.json and merges.txt"
        raise SetupError(f"{folder} holds no tokenizer of a Qwen ({lack}); take the hub folder as it is.")
    return tokenizer


def _check_vocabulary(network: PreTrainedModel, tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    rows = _embedding(network).weight.shape[0]
    if len(tokenizer) > rows:
        raise SetupError(
            f"The tokenizer in {folder} knows {len(tokenizer)} tokens, more than the network ({rows}); take the hub "
            "folder as it is."
        )


def _embedding(network: PreTrainedModel) -> torch.nn.Embedding:
    return cast(torch.nn.Embedding, network.get_input_embeddings())


def _read_stops(folder: Path, tokenizer: Qwen2Tokenizer) -> list[int]:
    """The tokens that end an answer."""
    path = folder / "generation_config.json"
    given = read_config(path).get("eos_token_id") if path.is_file() else tokenizer.eos_token_id
    listed = given if isinstance(given, list) else [given]
    stops = [stop for stop in listed if isinstance(stop, int)]
    if not stops or stops != listed:
        raise SetupError(f"{path} has no eos_token_id, so that no answer would end; take the hub folder as it is.")
    return stops
