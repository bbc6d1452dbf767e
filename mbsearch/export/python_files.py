"""Formats that need Python to become a network again: YAML, plain PyTorch, and timm's notation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from mbsearch.export.job import Job, Runner
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


def write_yaml(job: Job, folder: Path) -> None:
    """Write the architecture."""
    write_atomically(folder / ARCHITECTURE, job.architecture.to_yaml())


def read_yaml(job: Job, folder: Path) -> Runner:
    """Build the architecture; its weights are the job's, since YAML holds none."""
    network = build(read_architecture(read_document(folder / ARCHITECTURE)))
    network.load_state_dict(job.network.state_dict())
    return network.eval()


def write_pytorch(job: Job, folder: Path) -> None:
    """Write source that imports only torch, and the weights beside it."""
    from safetensors.torch import save_file

    side = job.side
    normalised = (
        "normalised as in its training."
        if job.normalisation is None
        else "then normalised: (x - MEAN) / STD."
    )
    docstring = (
        f"{job.title}\n\n"
        "    from safetensors.torch import load_file\n\n"
        "    network = Network()\n"
        f'    network.load_state_dict(load_file("{WEIGHTS}"))\n'
        "    network.eval()\n\n"
        f"It takes RGB images as floats of shape (N, 3, {side}, {side}), scaled to [0, 1] and\n"
        f"{normalised}\n"
    )
    constants = "" if job.normalisation is None else job.normalisation.constants()
    write_atomically(folder / SOURCE, standalone_source(job.architecture, docstring, constants))
    save_file(job.network.state_dict(), folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)


def read_pytorch(job: Job, folder: Path) -> Runner:
    """Run the source, and load the weights beside it."""
    from safetensors.torch import load_file

    network = _imported(folder / SOURCE, "Network")
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval()


def write_timm(job: Job, folder: Path) -> None:
    """Write source that has timm build the network.

    Raises:
        ExportError: timm has no words for the network.
    """
    docstring = f"{job.title}\n\nBuilt by timm from its own notation, with fresh weights.\n"
    write_atomically(folder / TIMM, timm_source(job.architecture, docstring))


def read_timm(job: Job, folder: Path) -> Runner:
    """Have timm build the network; its weights are the job's, under timm's names."""
    network = _imported(folder / TIMM, "network")
    theirs = network.state_dict()
    # The layers come in the same order; MobileNetV3's hidden layer is a 1x1 convolution in timm.
    pairs = zip(theirs.items(), job.network.state_dict().values(), strict=True)
    network.load_state_dict({key: ours.view(old.shape) for (key, old), ours in pairs})
    return network.eval()


def _imported(path: Path, name: str) -> nn.Module:
    """A network of a Python file, which is run, but does not become a known module.

    An import would leave its compiled form beside the file, in the folder of somebody else.
    """
    scope: dict[str, Any] = {"__name__": path.stem}
    source = path.read_text(encoding="utf-8")
    exec(compile(source, path, "exec", dont_inherit=True), scope)
    make: Callable[[], nn.Module] = scope[name]
    return make()
