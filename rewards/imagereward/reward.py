"""ImageReward (Xu et al. 2023, arXiv 2304.05977): how people would rate an image for its prompt.

A cross-encoder: BERT reads the prompt while looking at the image's ViT tokens, and an MLP turns its first token into a
number, which is standardised over the authors' training prompts. Image tokens are computed once per image; the rest
runs on batches of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import torch
from PIL.Image import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from rewards.card import Card
from rewards.errors import SetupError
from rewards.networks.blip import RewardNetwork, infer_shape
from rewards.networks.device import exactly
from rewards.networks.features import Features
from rewards.networks.preprocess import resize_first
from rewards.networks.reward import NetworkReward
from rewards.prompt import Prompt
from rewards.score import Score
from rewards.shared import shared
from rewards.spec import RewardSpec
from rewards.weights.checkpoint import load_strictly, read_config, read_state

FILES = ("ImageReward.pt", "med_config.json", "vocab.txt")
MEAN, STD = 0.16717362830052426, 1.0333394966054072
MAX_TOKENS = 35
PAIRS = 32
_CALL = 4 * PAIRS  # pairs whose image tokens are in memory at once, beside those that Features keeps
_BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_BLIP_TOKENS = ("[DEC]", "[ENC]")
UNUSED = frozenset(
    {
        "blip.text_encoder.embeddings.position_ids",
        *(f"blip.{name}_proj.{part}" for name in ("vision", "text") for part in ("weight", "bias")),
    }
)


class ImageReward(NetworkReward):
    """The published network with the published arithmetic; only the first 33 word pieces of a prompt count."""

    large = ("_judge",)

    def __init__(self, spec: RewardSpec, card: Card) -> None:
        super().__init__(spec, card)
        _ = self._judge  # what is wrong with the files is said now

    @cached_property
    def _judge(self) -> Judge:
        checkpoint, config, vocabulary = (self.files[name].resolve() for name in FILES)
        return _load(checkpoint, config, vocabulary, self.dtype, self.device)

    def score(self, images: Sequence[Image], prompts: Sequence[Prompt]) -> list[Score]:
        texts = [prompt.text for prompt in prompts]
        values: list[float] = []
        with exactly(self.device):
            for start in range(0, len(images), _CALL):
                values += self._judge.score(images[start : start + _CALL], texts[start : start + _CALL])
        return [Score(value) for value in values]


class Judge:
    """Network, tokenizer and kept image tokens of one set of files, dtype and device.

    The network stays mapped on disk until the first score, so that a process which only checks that the reward can be
    built reads none of it.
    """

    def __init__(self, network: RewardNetwork, tokenizer: Tokenizer, dtype: torch.dtype, device: torch.device) -> None:
        self._network, self.tokenizer, self.dtype, self.device = network, tokenizer, dtype, device
        self.features = Features(partial(resize_first, size=network.shape.image_size), self._encode)

    @cached_property
    def network(self) -> RewardNetwork:
        """On its device; the towers in the wanted dtype, the MLP in fp32."""
        self._network.blip.to(self.device, self.dtype)
        self._network.mlp.to(self.device, torch.float32)
        return self._network

    def score(self, images: Sequence[Image], texts: Sequence[str]) -> list[float]:
        """One number a pair; call it in `exactly`."""
        network = self.network.eval()
        tokens_BIV = self.features.of(images)
        ids_BT, mask_BT = (tensor.to(self.device) for tensor in self.tokenize(texts))
        parts = [slice(start, start + PAIRS) for start in range(0, len(texts), PAIRS)]
        raw_B = torch.cat([network.score(tokens_BIV[part], ids_BT[part], mask_BT[part]) for part in parts])
        return ((raw_B - MEAN) / STD).tolist()

    def tokenize(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """WordPiece ids [B, T] with [CLS] and [SEP], and True where they count; T is that of the longest text."""
        encoded = self.tokenizer.encode_batch(list(texts))
        ids = torch.tensor([one.ids for one in encoded])
        mask = torch.tensor([one.attention_mask for one in encoded], dtype=torch.bool)
        return ids, mask

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network.eval().encode_image(pixels.to(self.device, self.dtype))


@shared
def _load(checkpoint: Path, config: Path, vocabulary: Path, dtype: torch.dtype, device: torch.device) -> Judge:
    state = read_state(checkpoint)
    shape = infer_shape(state, read_config(config), checkpoint)
    with torch.device("meta"):
        network = RewardNetwork(shape)
    load_strictly(network, state, checkpoint, UNUSED)
    return Judge(network, read_tokenizer(vocabulary, shape.vocabulary, checkpoint), dtype, device)


def read_tokenizer(path: Path, rows: int, checkpoint: Path) -> Tokenizer:
    """bert-base-uncased's tokenizer from its vocab.txt, with BLIP's two special tokens behind it.

    Written out rather than taken from transformers, whose BertTokenizer(vocab_file=...) silently knows five tokens.
    As in the original, special tokens written out in a prompt are taken for what they say.

    Raises:
        SetupError: the file is no BERT vocabulary, or not that of a checkpoint with `rows` rows.
    """
    try:
        words = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise SetupError(f"{path} is no vocabulary of BERT: it is not UTF-8 text.") from error
    vocabulary = {word: place for place, word in enumerate(words)}
    absent = [token for token in _BERT_TOKENS if token not in vocabulary]
    if absent:
        raise SetupError(f"{path} is no vocabulary of BERT: it has no {', '.join(absent)}.")
    if len(vocabulary) + len(_BLIP_TOKENS) != rows:
        raise SetupError(
            f"{path} has {len(vocabulary)} words and {checkpoint} {rows} rows of them, which should be "
            f"{len(_BLIP_TOKENS)} more; take the vocab.txt of bert-base-uncased."
        )
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = {token: vocabulary[token] for token in ("[CLS]", "[SEP]")}
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[*ends.items()])
    tokenizer.add_special_tokens([*_BERT_TOKENS, *_BLIP_TOKENS])
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding(pad_id=vocabulary["[PAD]"])
    return tokenizer
