"""Published CLIP files that several rewards read."""

from rewards.card import WeightFile

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


def clip_l14(folder: str, *, text: bool) -> tuple[WeightFile, ...]:
    """OpenAI's CLIP ViT-L/14 as the hub has it, in a subfolder of a reward's weights."""
    repo, revision = "openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41"
    sha = "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb"
    names = ["config.json", "preprocessor_config.json", *(TOKENIZER_FILES if text else ())]
    network = WeightFile(
        f"{folder}/model.safetensors", repo, revision, "model.safetensors", "", 1710540580, sha,
        aliases=(f"{folder}/pytorch_model.bin",),
    )  # fmt: skip
    rest = [WeightFile(f"{folder}/{n}", repo, revision, n, required=n not in TOKENIZER_FILES) for n in names]
    return (network, *rest)
