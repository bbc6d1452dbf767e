"""Read weights from files of mbsearch, torchvision or timm."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mbsearch.errors import DataError
from mbsearch.text_file import require_regular
from mbsearch.training.network import BATCH_NORM_EPS

_CLASSIFIER = "head.classifier."
_SAFETENSORS = ".safetensors"
_TENSORS = ("weight", "bias", "running_mean", "running_var")
# Modules of torchvision and timm in the order of execution; numbered ones are sorted by number.
_ORDER = (
    *("conv_stem", "features", "layers", "conv_dw", "conv", "bn1", "blocks", "se", "conv_pw"),
    *("conv_head", "bn2", "classifier", "conv_reduce", "conv_expand", "fc1", "fc2", *_TENSORS),
)
# Blocks of timm that end in a ``conv_pwl`` begin with a ``conv_pw``.
_INVERTED = ("conv_pw", "bn1", "conv_dw", "bn2", "se", "conv_pwl", "bn3")


def load_weights(network: nn.Module, path: Path, *, eps: float = BATCH_NORM_EPS) -> None:
    """Load weights from a safetensors or ``torch.save`` file into a network.

    Names may be those of mbsearch, or of any library that lists the same layers in the same order,
    as torchvision and timm do for V1, V2, V3 and MnasNet. A classifier with another number of
    classes is skipped. (timm's ``tf_`` weights load too, but were trained with TensorFlow's
    padding.)

    Args:
        network: its weights are replaced.
        path: file with the weights.
        eps: epsilon of the batch normalizations that the file was trained with: 0.001 in
            torchvision's V3. Variances are shifted, so that the outputs are the same.

    Raises:
        DataError: the file cannot be read, or does not match; the message names the first
            mismatch.
    """
    tensors = match_weights(network, read_weights(path), path, eps=eps)
    network.load_state_dict(tensors, strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return a file's tensors by name, in the order of the layers, without batch counters.

    With names of mbsearch the order does not matter.

    Raises:
        DataError: the file cannot be read.
    """
    tensors = _counted(_read(path))
    if path.suffix == _SAFETENSORS:  # whose tensors are in alphabetical order
        return {name: tensors[name] for name in _in_order(tensors)}
    return tensors


def match_weights(
    network: nn.Module, theirs: Mapping[str, Tensor], path: Path, *, eps: float = BATCH_NORM_EPS
) -> dict[str, Tensor]:
    """Return a file's tensors under the names and in the shapes of a network's tensors.

    Args:
        network: network with the expected shapes; a `skeleton` is enough.
        theirs: tensors of the file; see `read_weights`.
        path: path of the file, for messages.
        eps: see `load_weights`.

    Raises:
        DataError: they do not match; the message names the first mismatch.
    """
    ours = _counted(network.state_dict())
    if len(ours) != len(theirs):
        raise DataError(
            f"{path}: expected the {len(ours)} tensors of this network, got {len(theirs)}"
        )
    # Names of another library correspond by their order.
    names: Iterable[str] = ours if set(ours) == set(theirs) else theirs
    matched: dict[str, Tensor] = {}
    for (name, target), other in zip(ours.items(), names, strict=True):
        given = theirs[other]
        if given.squeeze().shape != target.squeeze().shape:  # a 1x1 convolution may be linear here
            if name.startswith(_CLASSIFIER):
                continue
            raise DataError(
                f"{path}: {other}: expected the shape {tuple(target.shape)} of {name}, got "
                f"{tuple(given.shape)}"
            )
        shift = eps - BATCH_NORM_EPS if name.endswith("running_var") else 0.0
        matched[name] = given.reshape(target.shape).to(target.dtype) + shift
    return matched


def classes_of(path: Path) -> int:
    """Return the number of classes of a weights file with mbsearch's tensor names.

    Raises:
        DataError: the file cannot be read, or holds no classifier of ours.
    """
    bias = _read(path).get(f"{_CLASSIFIER}bias")
    if bias is None:
        raise DataError(f"{path}: expected the weights of a network of ours, got no classifier")
    return len(bias)


def _in_order(names: Collection[str]) -> list[str]:
    """Sort tensor names of torchvision or timm in the order of the layers."""
    narrowing = {name.partition("conv_pwl")[0] for name in names if "conv_pwl" in name}

    def place(name: str) -> list[tuple[int, int, str]]:
        found, before = [], ""
        for word in name.split("."):
            order = _INVERTED if before in narrowing else _ORDER
            rank = order.index(word) if word in order else len(order)
            found.append((rank, int(word) if word.isdigit() else 0, word))
            before += f"{word}."
        return found

    return sorted(names, key=place)


def content_of(path: Path) -> str:
    """Return the SHA-256 hash of a file's content.

    Raises:
        DataError: it cannot be read.
    """
    require_regular(path, "a file of weights", DataError)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _counted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dictionary without the batch counters, which outputs do not depend on."""
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


def _content(path: Path) -> str | None:
    """Return a description of a file that is empty or text, not weights; None if binary."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "an empty file"
    return "a text file" if start.isascii() and not set(start) & set(range(9)) else None


def _read(path: Path) -> Mapping[str, Tensor]:
    require_regular(path, "a file of weights", DataError)
    try:
        if path.suffix == _SAFETENSORS:
            from safetensors.torch import load_file

            return load_file(path)
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise DataError(
            f"{path}: expected the package safetensors to read it; "
            "run: pip install 'mbsearch[export]'"
        ) from None
    except Exception as error:  # pickle, zip and safetensors raise different errors
        reason = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, pickle.UnpicklingError) or "weights_only" in reason:
            # torch's own message advises to run the code of the file
            reason = "a pickle of other Python objects, which may run code; save a state_dict"
        got = _content(path) or reason
        raise DataError(f"{path}: expected a file of weights, got {got}") from None
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise DataError(f"{path}: expected a dictionary of tensors, got {type(found).__name__}")
    return found
