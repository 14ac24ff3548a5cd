"""A single file becomes the folder that it was made from, tensor by tensor, or is refused and leaves nothing behind."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dgpo.load import load_model
from dgpo.models.find import find_model
from dgpo.models.single_file import CLIP_G, CLIP_L, NETWORK, T5, XL_G, XL_L, Converted, convert_file
from rewards.errors import SetupError, UsageError
from tests.dgpo.models import original_layouts as original
from tests.dgpo.models.tiny_folders import save_tiny

SD3, XL, QWEN, Z = "StableDiffusion3Pipeline", "StableDiffusionXLPipeline", "QwenImagePipeline", "ZImagePipeline"
NEVER_READ = {"norm_final.weight": torch.full((32,), torch.nan)}
Tensors = dict[str, torch.Tensor]


def weights(part: Path) -> Tensors:
    return {name: value for file in sorted(part.glob("*.safetensors")) for name, value in load_file(file).items()}


def rewrite(part: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    (file,) = part.glob("*.safetensors")
    save_file({name: value.contiguous() for name, value in tensors.items()}, file, metadata={"format": "pt"})


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A model of a pipeline class, and one like it in which every weight is another."""
    made: dict[str, tuple[Path, Path]] = {}

    def pair(name: str) -> tuple[Path, Path]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            source = save_tiny(name, folder / "source")
            if name == SD3:  # which goes without this layer, as diffusers has it
                encoder = weights(source / "text_encoder")
                encoder["text_projection.weight"] = torch.eye(len(encoder["text_projection.weight"]))
                rewrite(source / "text_encoder", encoder)
            like = Path(shutil.copytree(source, folder / "like"))
            for file in like.rglob("*.safetensors"):
                rewrite(file.parent, {name: value + 1 for name, value in load_file(file).items()})
            made[name] = source, like
        return made[name]

    return pair


@pytest.fixture
def convert(tmp_path, models):
    """Convert these tensors, by the model that is like the one of a pipeline class."""

    def run(name: str, tensors: Mapping[str, torch.Tensor], like: Path | str | None = None) -> tuple[Converted, Path]:
        file, output = tmp_path / "one.safetensors", tmp_path / "made"
        save_file({name: value.contiguous() for name, value in tensors.items()}, file)
        return convert_file(file, like or find_model(str(models(name)[1])), output), output

    return run


def prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


def sd3_network(source: Path) -> Tensors:
    return original.sd3(weights(source / "transformer"), layers=2)


def is_same(part: Path, other: Path) -> bool:
    one, two = weights(part), weights(other)
    return one.keys() == two.keys() and all(
        one[name].dtype == two[name].dtype and torch.equal(one[name], two[name]) for name in two
    )


def is_copy(part: Path, other: Path) -> bool:
    files = sorted(path.name for path in other.iterdir())
    return sorted(path.name for path in part.iterdir()) == files and all(
        (part / name).read_bytes() == (other / name).read_bytes() for name in files
    )


def test_all_of_stable_diffusion_3_comes_from_its_file(models, convert):
    source, like = models(SD3)
    clip = weights(source / "text_encoder")
    del clip["text_projection.weight"]
    made, folder = convert(
        SD3,
        prefixed(NETWORK, sd3_network(source))
        | prefixed("first_stage_model.", original.autoencoder(weights(source / "vae"), levels=4))
        | prefixed(f"{CLIP_L}transformer.", clip)
        | prefixed(f"{CLIP_G}transformer.", weights(source / "text_encoder_2"))
        | prefixed(f"{T5}transformer.", weights(source / "text_encoder_3"))
        | {f"{CLIP_L}logit_scale": torch.tensor(4.6)},
    )
    parts = ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
    assert sorted(made.from_file) == sorted(parts)
    assert [part for part in parts if not is_same(folder / part, source / part)] == []
    assert sorted(made.from_like) == ["scheduler", "tokenizer", "tokenizer_2", "tokenizer_3"]
    assert [part for part in made.from_like if not is_copy(folder / part, like / part)] == []
    assert made.left_out == ()
    assert (folder / "model_index.json").read_bytes() == (like / "model_index.json").read_bytes()
    assert find_model(str(folder)) == folder
    model = load_model(str(folder), dtype="fp32", device=torch.device("cpu"), text_length=24)
    assert torch.equal(model.transformer.proj_out.weight, weights(source / "transformer")["proj_out.weight"])


@pytest.mark.parametrize("prefix", ["", NETWORK])
def test_a_network_alone_keeps_its_precision_and_the_rest_is_the_other_models(models, convert, prefix):
    source, like = models(SD3)
    halves = {name: value.bfloat16() for name, value in sd3_network(source).items()}
    made, folder = convert(SD3, prefixed(prefix, halves))
    assert made.from_file == ("transformer",)
    found, wanted = weights(folder / "transformer"), weights(source / "transformer")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name].bfloat16()) for name in wanted)
    assert [part for part in made.from_like if not is_copy(folder / part, like / part)] == []
    assert {"vae", "text_encoder", "text_encoder_3", "tokenizer"} <= {*made.from_like}


def test_several_precisions_become_the_widest_and_no_number_is_another(models, convert):
    source, _ = models(SD3)
    mixed = {
        name: value.bfloat16() if "attn" in name else value.half() if "mlp" in name else value
        for name, value in sd3_network(source).items()
    }
    _, folder = convert(SD3, mixed)
    found = weights(folder / "transformer")
    assert {value.dtype for value in found.values()} == {torch.float32}
    name = "transformer_blocks.0.attn.to_out.0.weight"
    assert torch.equal(found[name], weights(source / "transformer")[name].bfloat16().float())


@pytest.mark.parametrize("prefix", ["", NETWORK])
def test_of_qwen_image_only_the_prefix_differs(models, convert, prefix):
    source, _ = models(QWEN)
    made, folder = convert(QWEN, prefixed(prefix, weights(source / "transformer")))
    assert made.from_file == ("transformer",)
    assert is_same(folder / "transformer", source / "transformer")


def test_parts_that_diffusers_does_not_read_are_left_out_and_named(models, convert):
    source, like = models(QWEN)
    others = {"vae.conv1.weight": torch.ones(2), "text_encoders.qwen25_7b.transformer.model.norm.weight": torch.ones(2)}
    made, folder = convert(QWEN, prefixed(NETWORK, weights(source / "transformer")) | others)
    assert made.left_out == ("text_encoders.qwen25_7b", "vae")
    assert is_copy(folder / "vae", like / "vae")
    assert is_copy(folder / "text_encoder", like / "text_encoder")


def test_a_text_encoder_in_fp8_is_left_out(models, convert):
    source, like = models(SD3)
    encoder = prefixed(f"{T5}transformer.", weights(source / "text_encoder_3"))
    short = {name: value.to(torch.float8_e4m3fn) for name, value in encoder.items()}
    made, folder = convert(SD3, prefixed(NETWORK, sd3_network(source)) | short)
    assert made.left_out == ("text_encoders.t5xxl",)
    assert "text_encoder_3" in made.from_like
    assert is_copy(folder / "text_encoder_3", like / "text_encoder_3")


def test_all_of_sdxl_comes_from_its_file(models, convert):
    source, _ = models(XL)
    made, folder = convert(
        XL,
        prefixed(NETWORK, original.unet(weights(source / "unet"), levels=2, layers=1))
        | prefixed("first_stage_model.", original.autoencoder(weights(source / "vae"), levels=4))
        | prefixed(f"{XL_L}transformer.text_model.", weights(source / "text_encoder"))
        | prefixed(f"{XL_G}model.", original.open_clip(weights(source / "text_encoder_2")))
        | {"denoiser.sigmas": torch.ones(1000)},
    )
    assert sorted(made.from_file) == ["text_encoder", "text_encoder_2", "unet", "vae"]
    assert [part for part in made.from_file if not is_same(folder / part, source / part)] == []


@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_a_unet_alone_is_found_without_its_prefix(models, convert, layout):
    source, _ = models(XL)
    tensors = weights(source / "unet")
    _, folder = convert(XL, original.unet(tensors, levels=2, layers=1) if layout == "original" else tensors)
    assert is_same(folder / "unet", source / "unet")


@pytest.mark.parametrize("prefix", ["", NETWORK])
@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("Flux2KleinPipeline", original.flux2),
        ("Flux2Pipeline", original.flux2),
        ("SanaPipeline", original.sana),
        (Z, lambda tensors: original.z_image(tensors) | NEVER_READ),
    ],
)
def test_the_other_families(models, convert, name, layout, prefix):
    source, _ = models(name)
    _, folder = convert(name, prefixed(prefix, layout(weights(source / "transformer"))))
    assert is_same(folder / "transformer", source / "transformer")


def test_an_autoencoder_is_read_beside_a_network_of_another_kind(models, convert):
    source, _ = models(Z)
    vae = prefixed("vae.", original.autoencoder(weights(source / "vae"), levels=4))
    made, folder = convert(Z, prefixed(NETWORK, original.z_image(weights(source / "transformer"))) | vae)
    assert made.from_file == ("transformer", "vae")
    assert is_same(folder / "vae", source / "vae")


def test_of_a_hub_model_only_what_is_needed_is_asked_for(models, convert, tmp_path, monkeypatch):
    source, like = models(QWEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    asked = []

    def download(name, revision, allow_patterns, ignore_patterns):
        assert (name, revision) == ("someone/qwen", "v2")
        asked.extend(allow_patterns)
        return str(like)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("dgpo.models.single_file.fetch_file", lambda name: like / "model_index.json")
    (extra := like / "vae" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"")
    _, folder = convert(QWEN, weights(source / "transformer"), like="someone/qwen@v2")
    extra.unlink()
    assert is_same(folder / "transformer", source / "transformer")
    assert is_copy(folder / "vae", like / "vae")
    assert [pattern for pattern in asked if pattern.startswith("transformer")] == ["transformer/config.json"]
    assert {"vae/*.safetensors", "tokenizer/*.json", "model_index.json"} <= {*asked}


def changed_sd3(change):
    return lambda models: (SD3, change(prefixed(NETWORK, sd3_network(models(SD3)[0]))))


def changed_qwen(change):
    return lambda models: (QWEN, change(weights(models(QWEN)[0] / "transformer")))


def without(name: str):
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def having(name: str, *size: int):
    return lambda tensors: {**tensors, name: torch.ones(size or 2)}


def deeper_autoencoder(models):
    vae = prefixed("vae.", original.autoencoder(weights(models(SD3)[0] / "vae"), levels=4))
    return SD3, prefixed(NETWORK, sd3_network(models(SD3)[0])) | having("vae.encoder.down.9.block.0.conv1.weight")(vae)


REFUSED = {
    "a LoRA": (lambda _: (SD3, having("x.lora_A.weight")({})), "is a LoRA, and no whole model: put it on one"),
    "a LoRA of kohya": (lambda _: (SD3, having("lora_unet_x.lora_down.weight")({})), "is a LoRA"),
    "another family": (
        lambda models: (SD3, weights(models(QWEN)[0] / "transformer")), r"as diffusers reads it: .* of its own family",
    ),
    "another family, where names only change": (
        lambda models: (QWEN, sd3_network(models(SD3)[0])), r"lacks weights that the transformer of .*like has",
    ),
    "another size": (
        changed_sd3(having(f"{NETWORK}context_embedder.weight", 32, 96)), r"expected shape .* of its own family and",
    ),
    "no network": (lambda _: (SD3, having("vae.x")({})), "holds no transformer"),
    "weights lacking": (
        changed_sd3(without(f"{NETWORK}joint_blocks.1.x_block.mlp.fc1.bias")), "joint_blocks.1.x_block.mlp.fc1.bias",
    ),
    "weights lacking, where names only change": (changed_qwen(without("proj_out.bias")), "lacks weights that the"),
    "a text encoder's lacking": (
        changed_sd3(having(f"{T5}transformer.shared.weight", 11, 128)),
        r"lacks weights of the text_encoder_3: encoder\.block\.0.* and \d+ more",
    ),
    "weights too many": (changed_qwen(having("odd.weight")), r"no place .*odd\.weight"),
    "weights that diffusers drops in silence": (
        changed_sd3(having(f"{NETWORK}joint_blocks.0.x_block.odd.weight")),
        r"no place in the transformer: joint_blocks\.0\.x_block\.odd\.weight\. Get",
    ),
    "an autoencoder of other depth": (deeper_autoencoder, r"no place in the vae: of \d+ numbers \d+ were taken"),
    "two autoencoders": (
        changed_sd3(lambda tensors: having("vae.x")(having("first_stage_model.x")(tensors))), "holds two autoencoders",
    ),
    "weights of no part": (changed_sd3(having("model_ema.decay")), r"are of no part of a .*: model_ema\.decay\."),
    "fp8": (
        changed_sd3(lambda tensors: {name: value.to(torch.float8_e4m3fn) for name, value in tensors.items()}),
        r"holds its transformer as F8_E4M3, .* get it as bf16",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_and_nothing_is_left(models, convert, tmp_path, case):
    tensors, said = REFUSED[case]
    with pytest.raises(UsageError, match=said):
        convert(*tensors(models))
    assert [path.name for path in tmp_path.iterdir()] == ["one.safetensors"]


@pytest.mark.parametrize("name", ["one.ckpt", "one.bin", "one.gguf"])
def test_only_safetensors_are_opened(tmp_path, models, name):
    (tmp_path / name).write_bytes(b"\x80")
    with pytest.raises(
        UsageError, match=r"is no \.safetensors file, and no others are converted: get the model as one"
    ):
        convert_file(tmp_path / name, models(SD3)[1], tmp_path / "made")


def test_a_file_that_is_cut_off_or_absent_is_said(tmp_path, models):
    file = tmp_path / "one.safetensors"
    with pytest.raises(UsageError, match="There is no file"):
        convert_file(file, models(SD3)[1], tmp_path / "made")
    save_file({"x": torch.ones(100)}, file)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(UsageError, match=r"or is cut off .*get it again"):
        convert_file(file, models(SD3)[1], tmp_path / "made")


def test_what_stands_in_the_place_is_kept(tmp_path, models, convert):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mine.txt").write_text("mine")
    tensors = sd3_network(models(SD3)[0])
    with pytest.raises(UsageError, match="holds something already; name a new folder with --output"):
        convert(SD3, tensors)
    (tmp_path / "made" / "mine.txt").unlink()
    (tmp_path / "made").rename(tmp_path / "elsewhere")
    (tmp_path / "made").symlink_to(tmp_path / "elsewhere")
    assert (convert(SD3, tensors)[1] / "model_index.json").is_file()
    assert (tmp_path / "elsewhere" / "model_index.json").is_file()


def test_the_other_model_is_one_that_can_be_trained_and_whole(tmp_path, models, convert):
    like = Path(shutil.copytree(models(SD3)[1], tmp_path / "like"))
    (like / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(SetupError, match="vae holds no weights"):
        convert(SD3, sd3_network(models(SD3)[0]), like=like)
    (like / "model_index.json").write_text(json.dumps({"_class_name": "PixArtSigmaPipeline"}))
    with pytest.raises(UsageError, match="cannot be trained"):
        convert(SD3, sd3_network(models(SD3)[0]), like=like)
