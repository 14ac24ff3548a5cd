"""Find the two networks an OCR engine needs, detection and recognition, in a wheel or in a folder; and what they are.

A model is a path: an .onnx file, or a folder in Paddle's own format. A folder of models holds either files whose names
contain "det" and "rec" (det.onnx, PP-OCRv6_rec_small.onnx), or one subfolder for each with one .onnx file or with
inference.pdiparams; an inference.yml beside a model belongs to it.
"""

import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rewards.errors import SetupError, load_extra
from rewards.files import sha256

_BUNDLES = {
    "v6": ("rapidocr", "pip install 'dgpo[ocr]' (rapidocr 3.10 or newer)"),
    "v4": ("rapidocr_onnxruntime", "pip install 'dgpo[demo]'"),
}
_PADDLE_WEIGHTS = "inference.pdiparams"
_PADDLE_FILES = ("inference.json", "inference.pdmodel", _PADDLE_WEIGHTS)


@dataclass(frozen=True)
class Model:
    """One network: `path` is an .onnx file or a Paddle folder."""

    path: Path

    @property
    def onnx(self) -> bool:
        return self.path.suffix == ".onnx"

    @property
    def folder(self) -> Path:
        return self.path.parent if self.onnx else self.path

    @property
    def files(self) -> list[Path]:
        """What determines the output, for checksums."""
        weights = [self.path] if self.onnx else [self.path / name for name in _PADDLE_FILES]
        weights = [file for file in weights if file.is_file()]
        return weights + [self.settings_file] * self.settings_file.is_file()

    @property
    def settings_file(self) -> Path:
        return self.folder / "inference.yml"

    @cached_property
    def settings(self) -> dict[str, Any]:
        """inference.yml, or nothing where there is none."""
        import yaml

        if not self.settings_file.is_file():
            return {}
        return yaml.safe_load(self.settings_file.read_text(encoding="utf-8")) or {}

    @cached_property
    def graph(self) -> Any:
        """The ONNX file's inputs, outputs and metadata, as an unoptimised session."""
        runtime = load_extra("onnxruntime", "ocr")
        options = runtime.SessionOptions()
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        try:
            return runtime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        except onnx_failures() as error:
            raise SetupError(f"{self.path} is not an ONNX model that loads: {error}. Fetch it again.") from error

    @cached_property
    def characters(self) -> list[str]:
        """The recogniser's alphabet: from the ONNX metadata, else from inference.yml."""
        if self.onnx and "character" in self._metadata:
            return self._metadata["character"].split("\n")
        alphabet = self.settings.get("PostProcess", {}).get("character_dict")
        if not alphabet:
            raise SetupError(
                f"{self.path} does not say which characters it knows: neither in its ONNX metadata (character) nor "
                f"in {self.settings_file} (PostProcess: character_dict)."
            )
        return [str(character) for character in alphabet]

    @property
    def has_own_characters(self) -> bool:
        return self.onnx and "character" in self._metadata

    @property
    def _metadata(self) -> dict[str, str]:
        return self.graph.get_modelmeta().custom_metadata_map


@dataclass(frozen=True)
class OcrModels:
    detection: Model
    recognition: Model

    def check(self) -> None:
        """SetupError unless the ONNX files are what their names say: a map of text, and a row of letters."""
        if self.detection.onnx and len(_output_shape(self.detection)) != 4:
            raise SetupError(f"{self.detection.path} is not a text detection model; are the two files swapped?")
        if not self.recognition.onnx:
            return
        shape, known = _output_shape(self.recognition), len(self.recognition.characters)
        if len(shape) != 3:
            raise SetupError(f"{self.recognition.path} is not a text recognition model; are the two files swapped?")
        if isinstance(shape[2], int) and shape[2] not in (known + 1, known + 2):
            raise SetupError(f"{self.recognition.path} writes {shape[2]} characters, but its list holds {known}.")

    @property
    def size(self) -> int:
        """Bytes of the weights files."""
        return sum(file.stat().st_size for model in (self.detection, self.recognition) for file in model.files)

    def checksums(self) -> str:
        """Every weights file with its sha256, for the record of a run."""
        files = self.detection.files + self.recognition.files
        return ", ".join(f"{file.name} sha256:{sha256(file)}" for file in files)


def find_models(folder: str | None, bundled: str) -> OcrModels:
    """The models of a --weights folder, or those that come in a wheel: v6 or v4.

    Raises:
        SetupError: the folder or the wheel is missing, or does not hold one model of each kind.
    """
    place = Path(folder) if folder is not None else _bundle_folder(bundled)
    if not place.is_dir():
        raise SetupError(f"{place}: there is no such folder of OCR models.")
    return OcrModels(_find_model(place, "det"), _find_model(place, "rec"))


def onnx_failures() -> tuple[type[Exception], ...]:
    """The exceptions of onnxruntime, which share no base class but Exception."""
    state = load_extra("onnxruntime.capi.onnxruntime_pybind11_state", "ocr")
    found = [getattr(state, name) for name in dir(state)]
    return tuple(kind for kind in found if isinstance(kind, type) and issubclass(kind, Exception))


def _output_shape(model: Model) -> list[int | str]:
    return model.graph.get_outputs()[0].shape


def _bundle_folder(bundled: str) -> Path:
    package, command = _BUNDLES[bundled]
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SetupError(f"The OCR weights {bundled} come with {package}, which is not installed: {command}")
    folder = Path(found.submodule_search_locations[0]) / "models"
    if not folder.is_dir():
        raise SetupError(f"The installed {package} brings no OCR weights ({folder} is missing): {command}")
    return folder


def _find_model(place: Path, kind: str) -> Model:
    folders = [path for path in sorted(place.iterdir()) if path.is_dir() and kind in path.name.lower()]
    found = [path for path in sorted(place.glob("*.onnx")) if kind in path.name.lower()]
    for folder in folders:
        found += sorted(folder.glob("*.onnx"))
        if (folder / _PADDLE_WEIGHTS).is_file():
            found.append(folder)
    if len(found) != 1:
        names = ", ".join(str(path.relative_to(place)) for path in found) or "nothing"
        raise SetupError(
            f"{place}: expected one {kind} model (a file *{kind}*.onnx, or a folder *{kind}* with one .onnx file or "
            f"{_PADDLE_WEIGHTS}), found {names}."
        )
    return Model(found[0])
