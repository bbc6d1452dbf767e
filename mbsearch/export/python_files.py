"""Formats from which Python builds a network: YAML, plain PyTorch and timm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from mbsearch.errors import ExportError
from mbsearch.export.exportable import Exportable, Runner
from mbsearch.export.standalone import standalone_source
from mbsearch.export.timm_string import timm_source
from mbsearch.space.space import read_architecture
from mbsearch.space.yaml_source import read_document
from mbsearch.study.atomic_files import write_atomically
from mbsearch.training.network import build

ARCHITECTURE = "architecture.yaml"
SOURCE = "model.py"
WEIGHTS = "model.safetensors"
TIMM = "timm_model.py"
TIMM_WEIGHTS = "timm_model.safetensors"


def write_yaml(exportable: Exportable, folder: Path) -> None:
    """Write ``architecture.yaml``."""
    write_atomically(folder / ARCHITECTURE, exportable.architecture.to_yaml())


def read_yaml(exportable: Exportable, folder: Path) -> Runner:
    """Return the network built from the YAML file, with the weights of `exportable`."""
    network = build(read_architecture(read_document(folder / ARCHITECTURE)))
    network.load_state_dict(exportable.module.state_dict())
    return network.eval()


def write_pytorch(exportable: Exportable, folder: Path) -> None:
    """Write Python source that imports only torch, and a file of weights."""
    from safetensors.torch import save

    shape = ", ".join(map(str, exportable.images.shape))
    normalised = (
        "normalised as in training."
        if exportable.normalisation is None
        else "then normalised: (x - MEAN) / STD."
    )
    classes = "CLASSES names the outputs in their order.\n" if exportable.class_names else ""
    docstring = (
        f"{exportable.title}\n\n"
        "    from safetensors.torch import load_file\n\n"
        "    network = Network()\n"
        f'    network.load_state_dict(load_file("{WEIGHTS}"))\n'
        "    network.eval()\n\n"
        f"It takes images as floats of shape (N, {shape}),\n"
        f"{exportable.colours}, scaled to [0, 1] and\n"
        f"{normalised} README.md has the code from an image file to a class.\n"
        f"{classes}"
    )
    write_atomically(
        folder / SOURCE,
        standalone_source(exportable.architecture, docstring, exportable.constants()),
    )
    write_atomically(folder / WEIGHTS, save(exportable.module.state_dict()))


def read_pytorch(exportable: Exportable, folder: Path) -> Runner:
    """Return the exported PyTorch network with its weights, in evaluation mode."""
    return read_source(folder / SOURCE, folder / WEIGHTS)


def read_source(source: Path, weights: Path) -> nn.Module:
    """Return the network of an exported Python file and its weights, in evaluation mode."""
    from safetensors.torch import load_file

    network = imported_network(source, "Network")
    network.load_state_dict(load_file(weights))
    return network.eval()


def write_timm(exportable: Exportable, folder: Path) -> None:
    """Write Python source that builds the network with timm, and the weights under timm's names.

    Raises:
        ExportError: timm cannot express the network.
    """
    from safetensors.torch import save_file

    docstring = (
        f"{exportable.title}\n\nBuilt by timm from its own notation. load() reads the weights from "
        f"{TIMM_WEIGHTS}\nbeside this file; network() has fresh ones.\n"
    )
    source = timm_source(exportable.architecture, docstring, TIMM_WEIGHTS, exportable.constants())
    write_atomically(folder / TIMM, source)
    theirs = imported_network(folder / TIMM, "network").state_dict()
    # The order of layers is the same. MobileNetV3's hidden layer is a 1x1 convolution in timm.
    pairs = zip(theirs.items(), exportable.module.state_dict().values(), strict=True)
    save_file({key: ours.view(old.shape) for (key, old), ours in pairs}, folder / TIMM_WEIGHTS)
    (folder / TIMM_WEIGHTS).chmod(0o644)


def read_timm(exportable: Exportable, folder: Path) -> Runner:
    """Build the network with timm, and load the weights beside the source."""
    return imported_network(folder / TIMM, "load")


def imported_network(path: Path, name: str) -> nn.Module:
    """Return the network that a Python file builds, without importing it as a module.

    An import would write bytecode beside the file, into the user's folder.

    Raises:
        ExportError: it does not define `name`.
    """
    scope: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    source = path.read_text(encoding="utf-8")
    exec(compile(source, path, "exec", dont_inherit=True), scope)
    if name not in scope:
        raise ExportError(f"{path}: expected a definition of {name}, got none")
    make: Callable[[], nn.Module] = scope[name]
    return make()
