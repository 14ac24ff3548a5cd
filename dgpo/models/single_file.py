"""A diffusers folder of a single file: its weights by diffusers' own conversion, the rest from a folder like it.

Conversions rename, cut, swap and transpose; they never compute. So the numbers that come out of one are held against
those that went in, part by part, and no weight is dropped or made up in silence.
"""

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import reduce
from pathlib import Path
from typing import Any, NoReturn

import diffusers
import torch
import transformers
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from diffusers.loaders.single_file_utils import (
    SingleFileComponentError,
    create_diffusers_clip_model_from_ldm,
    create_diffusers_t5_model_from_checkpoint,
)
from safetensors import SafetensorError, safe_open

from dgpo.models.families import family_of
from dgpo.models.find import HubId
from dgpo.models.folder import INDEX, check_folder, read_components, read_json
from dgpo.models.hub import fetch_file, told_of_the_hub
from dgpo.models.pretrained import FAULTS, overheard
from rewards.errors import SetupError, UsageError
from rewards.files import check_writable, move

SUFFIX = ".safetensors"
LORA = re.compile(r"lora[._]|lokr_|hada_")
PRECISIONS = ("F32", "BF16", "F16")
NETWORK = "model.diffusion_model."
"""What stands before the network's weights where a file holds more than them."""
AUTOENCODER = ("first_stage_model.", "vae.")
TEXT = ("text_encoders.", "conditioner.", "cond_stage_model.")
"""What begins the names of text encoders, those that diffusers does not read among them."""
CLIP_L, CLIP_G, T5 = "text_encoders.clip_l.", "text_encoders.clip_g.", "text_encoders.t5xxl."
XL_L, XL_G = "conditioner.embedders.0.", "conditioner.embedders.1."
ENCODERS = {
    "FluxPipeline": {CLIP_L: "text_encoder", T5: "text_encoder_2"},
    "StableDiffusion3Pipeline": {CLIP_L: "text_encoder", CLIP_G: "text_encoder_2", T5: "text_encoder_3"},
    "StableDiffusionXLPipeline": {XL_L: "text_encoder", XL_G: "text_encoder_2"},
}
"""The text encoders that diffusers reads, by what stands before their weights."""
READ = {*SINGLE_FILE_LOADABLE_CLASSES, "CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel"}
ADDED = {CLIP_L: "text_projection.weight", T5: "encoder.embed_tokens.weight"}
"""What diffusers puts there whatever a file says: the identity, for a layer that Stable Diffusion 3 goes without, and
the second name of T5's embedding."""
UNREAD = "|".join(
    [r"denoiser\.sigmas", r".*\.logit_scale", r".*\.position_ids"]
    + [re.escape(f"{prefix}transformer.{name}") for prefix, name in ADDED.items()]
)
"""What published files hold and no pipeline reads: tables that are made anew, and what serves training alone."""
UNREAD_OF = {"SanaPipeline": r"pos_embed|y_embedder\.y_embedding", "ZImagePipeline": r"norm_final\.weight"}
LOADER = "diffusers.loaders.single_file_model"
UNHEARD = "were not used"
COPIED = (".json", ".txt", ".model", ".jinja", SUFFIX)
VARIANT = "*.fp16*"
MEND = "Get the whole file again, or give --like a model of its own family and size."
Piece = tuple[str, list[str]]
"""What stands before the names of a part in a file, and those names."""


@dataclass(frozen=True)
class Converted:
    """Where the parts of a folder are from."""

    from_file: tuple[str, ...]
    from_like: tuple[str, ...]
    left_out: tuple[str, ...]
    """What begins the names of the parts of a file that diffusers does not read."""


def convert_file(file: Path, like: Path | str, output: Path) -> Converted:
    """Make a diffusers folder of a single file in the original layout of a family.

    Parts that diffusers reads in the file have the file's weights, in their precision (the widest, where a part has
    several). All else, configs and tokenizers among it, is that of `like`. The folder appears whole or not at all.

    Args:
        like: a model of the same family and size, as `find_model` gives it; of a hub's only what is needed is fetched.

    Raises:
        UsageError: the file is no safetensors file, a LoRA, or of another family or size; it lacks weights, or holds
            some that have no place; the family is none that can be trained; `output` holds something already.
        SetupError: `like` cannot be had or is not whole, or there is no room for the weights.
        OSError: no folder can be made at `output`; nothing is left there.
    """
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UsageError(f"{output} holds something already; name a new folder with --output.")
    output = Path(os.path.realpath(output))
    check_writable(output, folder=True)
    precisions = _read_precisions(file)
    start = like if isinstance(like, Path) else fetch_file(like).parent
    index = read_json(start / INDEX)
    checkpoint = _Checkpoint(file, like, index, family_of(like, index).network, precisions)
    pieces, left_out = checkpoint.share_out()
    rest = tuple(part for part in read_components(start) if part not in pieces)
    place = start if isinstance(like, Path) else _fetch(like, pieces, rest)
    partial = output.with_name(f".{output.name[:200]}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for part, piece in pieces.items():
            _save(checkpoint.convert(part, piece, place), partial / part)
        for part in rest:
            _copy(place / part, partial / part)
        shutil.copyfile(place / INDEX, partial / INDEX)
        check_folder(partial)
        move(partial, output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Converted(tuple(pieces), rest, left_out)


def _read_precisions(file: Path) -> dict[str, str]:
    """In which precision each tensor of a file is, by its header."""
    if not file.is_file():
        raise UsageError(f"There is no file {file}.")
    if file.suffix.lower() != SUFFIX:
        raise UsageError(f"{file} is no {SUFFIX} file, and no others are converted: get the model as one.")
    try:
        with safe_open(file, "pt") as opened:
            precisions = {name: str(opened.get_slice(name).get_dtype()) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UsageError(f"{file} is no {SUFFIX} file, or is cut off ({error}); get it again.") from error
    if any(LORA.search(name) for name in precisions):
        raise UsageError(
            f"{file} is a LoRA, and no whole model: put it on one with `dgpo eval --model BASE --lora {file}`, or "
            "`dgpo sample`."
        )
    return precisions


@dataclass(frozen=True)
class _Checkpoint:
    """A single file, and the model whose parts its own replace."""

    file: Path
    like: Path | str
    index: Mapping[str, Any]
    network: str
    precisions: Mapping[str, str]

    def share_out(self) -> tuple[dict[str, Piece], tuple[str, ...]]:
        """The tensors of each part that is read, and what begins the names of those that are not."""
        pipeline = self.index["_class_name"]
        parts = {NETWORK: self.network, **dict.fromkeys(AUTOENCODER, "vae"), **ENCODERS.get(pipeline, {})}
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.precisions:
            unknown = ".".join(name.split(".")[:2]) if name.startswith(TEXT) else ""
            found[next((prefix for prefix in parts if name.startswith(prefix)), unknown)].append(name)
        found = {prefix: names for prefix, names in found.items() if self._without_unread(names)}
        if NETWORK not in found:
            found[NETWORK] = found.pop("", [])
        if "" in found:
            odd = self._without_unread(found[""])
            raise UsageError(f"{self.file} holds weights that are of no part of a {pipeline}: {_some(odd)}. {MEND}")
        if {*AUTOENCODER} <= {*found}:
            raise UsageError(f"{self.file} holds two autoencoders, {' and '.join(AUTOENCODER)}; save it with one.")
        read = [prefix for prefix in found if self._is_read(parts.get(prefix), found[prefix])]
        if NETWORK not in read:
            self._refuse_network(found[NETWORK])
        return {parts[prefix]: (prefix, found[prefix]) for prefix in read}, tuple(
            sorted(prefix.rstrip(".") for prefix in {*found} - {*read})
        )

    def convert(self, part: str, piece: Piece, place: Path) -> Any:
        """A part with the file's weights, all of them and no others; its config is in `place`."""
        prefix, names = piece
        with safe_open(self.file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in names}
        wanted = [tensors[name] for name in self._without_unread(names)]
        dtype = reduce(torch.promote_types, (tensor.dtype for tensor in wanted))
        before = _tally(wanted, dtype)
        given = _as_read(self._kind(part), prefix, tensors)
        with overheard([LOADER], UNHEARD) as said:
            try:
                network = _read(self._kind(part), given, place, part, dtype)
            except NotImplementedError as error:  # diffusers moves weights that it has not loaded
                raise UsageError(f"{self.file} lacks weights that the {part} of {self.like} has. {MEND}") from error
            except (*FAULTS, SingleFileComponentError) as error:
                raise UsageError(
                    f"{self.file} does not hold the {part} of a model like {self.like}, as diffusers reads it: "
                    f"{type(error).__name__}: {_first_line(error)}. {MEND}"
                ) from error
        held = {name: tensor for name, tensor in network.state_dict().items() if name != ADDED.get(prefix)}
        lacking = [name for name, tensor in held.items() if tensor.is_meta]
        if lacking:
            raise UsageError(f"{self.file} lacks weights of the {part}: {_some(lacking)}. {MEND}")
        after = _tally(held.values(), dtype)
        if after != before:
            left = list(given) if len(given) < len(names) else []  # of a conversion that takes out what it uses
            hint = said[0] if said else _some(left) if left else f"of {before[0]} numbers {after[0]} were taken"
            raise UsageError(f"{self.file} holds weights that have no place in the {part}: {hint}. {MEND}")
        return network

    def _kind(self, part: str | None) -> Any:
        """The class of a part; None where the other model goes without, or its class is not of these libraries."""
        value = self.index.get(part or "")
        library, name = value if isinstance(value, list) and len(value) == 2 else (None, None)
        return getattr({"diffusers": diffusers, "transformers": transformers}.get(str(library)), str(name), None)

    def _is_read(self, part: str | None, names: Sequence[str]) -> bool:
        kind = self._kind(part)
        plain = {self.precisions[name] for name in self._without_unread(names)} <= {*PRECISIONS}
        return bool(names) and plain and isinstance(kind, type) and any(base.__name__ in READ for base in kind.__mro__)

    def _without_unread(self, names: Iterable[str]) -> list[str]:
        own = UNREAD_OF.get(self.index["_class_name"], "(?!)")
        unread = re.compile(f"{UNREAD}|({re.escape(NETWORK)})?({own})")
        return [name for name in names if not unread.fullmatch(name)]

    def _refuse_network(self, names: Sequence[str]) -> NoReturn:
        if not names:
            raise UsageError(f"{self.file} holds no {self.network}. {MEND}")
        others = sorted({self.precisions[name] for name in self._without_unread(names)} - {*PRECISIONS})
        if others:
            raise UsageError(
                f"{self.file} holds its {self.network} as {', '.join(others)}, which cuts weights short: get it as "
                "bf16, fp16 or fp32."
            )
        kind = getattr(self._kind(self.network), "__name__", self.index.get(self.network))
        raise UsageError(f"diffusers {diffusers.__version__} converts no single file to a {kind}.")


def _as_read(kind: Any, prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Named as diffusers expects it: text encoders by their whole names, all else by its own."""
    if issubclass(kind, transformers.PreTrainedModel):
        return dict(tensors)
    bare = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    if any(name.startswith("input_blocks.") for name in bare):  # a UNet, which is looked for by its prefix
        return {NETWORK + name: tensor for name, tensor in bare.items()}
    return bare


def _read(kind: Any, tensors: dict[str, torch.Tensor], place: Path, part: str, dtype: torch.dtype) -> Any:
    """The part by diffusers' conversion, which may take tensors out of the dict."""
    if not issubclass(kind, transformers.PreTrainedModel):
        return kind.from_single_file(tensors, config=str(place), subfolder=part, dtype=dtype, local_files_only=True)
    is_t5 = issubclass(kind, transformers.T5EncoderModel)
    create = create_diffusers_t5_model_from_checkpoint if is_t5 else create_diffusers_clip_model_from_ldm
    encoder = create(kind, tensors, part, config=str(place), torch_dtype=dtype, local_files_only=True)
    encoder.tie_weights()  # the embedding's second name would stay without weights
    return encoder.to(dtype)


def _tally(tensors: Iterable[torch.Tensor], dtype: torch.dtype) -> tuple[int, int]:
    """How many numbers, and the sum of their bits: both stay as they are where tensors are renamed, cut or swapped."""
    bits = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    numbers = total = 0
    for tensor in tensors:
        numbers += tensor.numel()
        total += int(tensor.to(dtype).contiguous().view(bits).sum(dtype=torch.int64))
    return numbers, total


def _fetch(name: str, pieces: Iterable[str], rest: Iterable[str]) -> Path:
    """What is needed of a hub's model: not the weights that the file brings."""
    from huggingface_hub import snapshot_download

    wanted = [INDEX, *(f"{part}/config.json" for part in pieces)]
    wanted += [f"{part}/*{suffix}" for part in rest for suffix in COPIED]
    repository, revision = HubId.of(name)
    with told_of_the_hub(name):
        kept = snapshot_download(repository, revision=revision, allow_patterns=wanted, ignore_patterns=VARIANT)
    return Path(kept)


def _copy(part: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in part.iterdir() if part.is_dir() else ():
        if path.is_file() and path.suffix in COPIED and not fnmatch(path.name, VARIANT):
            shutil.copyfile(path, target / path.name)


def _save(network: Any, folder: Path) -> None:
    try:
        network.save_pretrained(folder)
    except SafetensorError as error:
        raise SetupError(f"{folder} cannot be written ({error}); free some space, or choose another place.") from error


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason is given").rstrip(".")
