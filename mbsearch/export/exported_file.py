"""Open an exported file of any format, with its preprocessing and class names."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mbsearch.data.readers import Pixels
from mbsearch.errors import ExportError, did_you_mean
from mbsearch.export.exportable import LABELS, Runner
from mbsearch.export.graphs import onnx_session
from mbsearch.export.library_path import path_in_utf8
from mbsearch.export.preprocessing import PREPROCESSING_FILE, Preprocessing
from mbsearch.export.python_files import TIMM, imported_network, read_source
from mbsearch.text_file import read_text, require_regular

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

_MOST_BYTES = 10_000_000  # of class names
_MOST_SHOWN = 80  # characters of wrong ones
_LOGITS = 2  # dimensions


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """An exported network that is ready to run, on one CPU thread.

    `class_names` are in the order of the outputs, empty if they are unknown.
    """

    path: Path
    engine: str
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    run: Callable[[Pixels], Tensor] = field(repr=False)

    def probabilities(self, pixels: Pixels) -> NDArray[np.float64]:
        """Return class probabilities (N, classes) for images of bytes (N, H, W, C).

        Raises:
            ExportError: the outputs are not one number for each class name.
        """
        logits = self.run(pixels)
        known = len(self.class_names) or logits.shape[-1]
        if logits.ndim != _LOGITS or logits.shape[1] != known:
            raise ExportError(
                f"{self.path}: expected one output for each of the {known} class names, got the "
                f"shape {tuple(logits.shape[1:])}"
            )
        found: NDArray[np.float64] = logits.double().softmax(1).numpy()
        return found


@dataclass(frozen=True, slots=True)
class _Opened:
    """A network of one format.

    `run` takes normalised floats (N, C, H, W), or with `takes_bytes` images of bytes (N, H, W, C).
    """

    engine: str
    run: Callable[[Any], Tensor]
    notes: Mapping[str, str] = field(default_factory=dict)
    takes_bytes: bool = False


def open_exported(
    path: Path, preprocessing: Path | None = None, labels: Path | None = None
) -> ExportedFile:
    """Open an exported file: ``.onnx``, ``.tflite``, ``.pt2``, ``.py`` or ``.safetensors``.

    A ``.py`` file is run. Weights are read from the file beside it.

    Args:
        path: the file.
        preprocessing: a ``preprocessing.json``; None for the file's metadata, else the
            ``preprocessing.json`` beside the file.
        labels: class names, one a line; None for the file's metadata, else the ``labels.txt``
            beside the file.

    Raises:
        ExportError: the file is missing, damaged or of an unknown format, its runtime is not
            installed, or its preprocessing is unknown.
        SpecError: the preprocessing is invalid.
    """
    require_regular(path, "an exported network", ExportError)
    suffix = path.suffix.lower()
    if suffix not in _OPENERS:
        raise ExportError(
            f"{path}: expected a file that ends in one of {', '.join(_OPENERS)}, got "
            f"{path.suffix or 'no extension'}{did_you_mean(suffix, _OPENERS)}"
        )
    with path_in_utf8(path.parent) as folder:
        opened = _opened(path, folder / path.name, suffix)
    known = _preprocessing(path, opened.notes, preprocessing)
    run: Callable[[Pixels], Tensor] = opened.run
    if not opened.takes_bytes:
        run = _normalising(opened.run, known)
    return ExportedFile(path, opened.engine, known, _class_names(path, opened.notes, labels), run)


def _opened(path: Path, readable: Path, suffix: str) -> _Opened:
    try:
        return _OPENERS[suffix](readable)
    except ExportError:
        raise
    except Exception as error:  # runtimes raise anything for damaged files, a .py file too
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise ExportError(
            f"{path}: expected an exported network, got a file that cannot be opened ({first})"
        ) from error


def _normalising(run: Runner, preprocessing: Preprocessing) -> Callable[[Pixels], Tensor]:
    @torch.inference_mode()
    def normalise_and_run(pixels: Pixels) -> Tensor:
        return run(preprocessing.normalised(pixels))

    return normalise_and_run


def _preprocessing(path: Path, notes: Mapping[str, str], given: Path | None) -> Preprocessing:
    if given is not None:
        return Preprocessing.read(given)
    found = Preprocessing.in_notes(notes, path.name)
    if found is not None:
        return found
    beside = path.with_name(PREPROCESSING_FILE)
    if beside.exists():
        return Preprocessing.read(beside)
    keys = ", ".join(Preprocessing.model_fields)
    raise ExportError(
        f"{path}: expected the preprocessing of its images in its metadata or in {beside}, got "
        f"none; --preprocessing FILE takes a JSON file of {keys}"
    )


def _class_names(path: Path, notes: Mapping[str, str], given: Path | None) -> tuple[str, ...]:
    if given is None and "class_names" in notes:
        return _noted_names(path, notes["class_names"])
    file = given or path.with_name(LABELS)
    if given is None and not file.exists():
        return ()
    text = read_text(file, "class names, one a line", ExportError, _MOST_BYTES)
    return tuple(text.replace("\r\n", "\n").removesuffix("\n").split("\n"))


def _noted_names(path: Path, text: str) -> tuple[str, ...]:
    """Return the class names in a file's metadata."""
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ExportError(
            f"{path}: expected class_names in its metadata as a JSON list of text, got "
            f"{text[:_MOST_SHOWN]!r}; --labels FILE takes a file of names, one a line"
        )
    return tuple(names)


def _onnx(path: Path) -> _Opened:
    session = onnx_session(path)
    first = session.get_inputs()[0]

    def run(images: NDArray[np.generic] | Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {first.name: np.asarray(images)})[0])

    notes = session.get_modelmeta().custom_metadata_map
    return _Opened("onnxruntime", run, notes, takes_bytes=first.type == "tensor(uint8)")


def _tflite(path: Path) -> _Opened:
    if importlib.util.find_spec("ai_edge_litert") is None:
        raise ExportError(
            f"{path}: expected the package ai_edge_litert, which is not installed; run: "
            "pip install ai-edge-litert"
        )
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]
    if np.issubdtype(given["dtype"], np.integer) and not given["quantization"][0]:
        raise ExportError(f"{path}: expected a scale of its integer input, got none")
    return _Opened("LiteRT", lambda images: torch.cat([_invoke(interpreter, i) for i in images]))


def _invoke(interpreter: Interpreter, image: Tensor) -> Tensor:
    """Return the logits (1, classes) of one image (C, H, W); integers are (de)quantised."""
    given, returned = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    pixels = image.numpy()[None]
    if tuple(given["shape"]) != pixels.shape:  # most files of other programs are channels last
        pixels = pixels.transpose(0, 2, 3, 1)
    kind, (scale, zero) = given["dtype"], given["quantization"]
    if np.issubdtype(kind, np.integer):
        limits = np.iinfo(kind)
        pixels = np.rint(pixels / scale + zero).clip(limits.min, limits.max)
    interpreter.set_tensor(given["index"], np.ascontiguousarray(pixels.astype(kind)))
    interpreter.invoke()
    logits = interpreter.get_tensor(returned["index"]).reshape(1, -1)
    if np.issubdtype(returned["dtype"], np.integer):
        scale, zero = returned["quantization"]
        logits = (logits.astype(np.float32) - zero) * scale
    return torch.from_numpy(logits)


def _program(path: Path) -> _Opened:
    return _Opened("torch", torch.export.load(path).module())


def _source(path: Path) -> _Opened:
    """Open a Python file and the weights beside it, given either of the two."""
    source, weights = path.with_suffix(".py"), path.with_suffix(".safetensors")
    require_regular(source, "the source of the network beside its weights", ExportError)
    require_regular(weights, "the weights of the network beside its source", ExportError)
    if source.name == TIMM:
        return _Opened("torch", imported_network(source, "load").eval())
    return _Opened("torch", read_source(source, weights))


_OPENERS: dict[str, Callable[[Path], _Opened]] = {
    ".onnx": _onnx,
    ".tflite": _tflite,
    ".pt2": _program,
    ".py": _source,
    ".safetensors": _source,
}
