"""Post-training quantisation of an ONNX file to int8, with its loss of accuracy."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mbsearch.data.batches import Split, batches
from mbsearch.data.calibration import calibration_images
from mbsearch.data.sources import ImageSource
from mbsearch.errors import ExportError
from mbsearch.export.exportable import Exportable
from mbsearch.export.graphs import INT8, ONNX, run_onnx, write_onnx
from mbsearch.space.architecture import Architecture
from mbsearch.space.size import Size
from mbsearch.study.records import Predictions
from mbsearch.training.network import build

LARGE_LOSS = 0.05
"""Loss of accuracy above which the most sensitive layer is searched for."""
_SENSITIVITY_IMAGES = 256
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Quantised:
    """Accuracies before and after quantisation, on the same images.

    After a large loss, `sensitive` is the layer that restores the most accuracy if it alone stays
    in float32, with the accuracy on a part of the images then; else None. `fine_tuned` is whether
    the int8 file has weights that were fine-tuned for int8.
    """

    before: float
    after: float
    images: int
    split: str
    sensitive: tuple[str, float] | None = None
    fine_tuned: bool = False

    def sentence(self) -> str:
        """Return a sentence with both accuracies and the most sensitive layer, if known."""
        text = (
            f"int8 classifies {self.after:.4f} of {self.images} {self.split} images correctly, "
            f"float32 {self.before:.4f}"
        )
        if self.fine_tuned:
            text += " (int8 after quantisation-aware fine-tuning)"
        if self.sensitive is None:
            return f"{text}."
        layer, accuracy = self.sensitive
        return (
            f"{text}, a large loss. The most sensitive layer is {layer}: with it alone in float32 "
            f"the accuracy is {accuracy:.4f}."
        )


def int8_predictions(
    architecture: Architecture, network: nn.Module, source: ImageSource, scored: Sequence[Split]
) -> list[Predictions]:
    """Quantise a trained network to int8, and return its predictions on each split.

    Args:
        architecture: of the network.
        network: its weights are copied.
        source: images of the study; some of the training split calibrate.
        scored: at least one split of images of the size that the network was trained on.

    Raises:
        DataError: the images cannot be read.
        ExportError: onnxruntime cannot quantise the network.
    """
    copied = build(architecture)
    copied.load_state_dict(network.state_dict())
    size = Size(*scored[0].images.shape[-2:])
    exportable = Exportable(architecture, copied.eval(), architecture.name, pixels=size)
    with tempfile.TemporaryDirectory() as made:
        folder, calibration = Path(made), calibration_images(source, exportable.images)
        try:
            write_onnx(exportable, folder)
            _quantise(_prepared(folder), folder / INT8, calibration)
        except Exception as error:  # of many classes, of torch and onnxruntime
            cause = f"{type(error).__name__}: {error}"
            message = f"{architecture.name}: cannot be quantised to int8 ({cause})"
            raise ExportError(message) from None
        predicted = [_predicted(folder / INT8, split).numpy() for split in scored]
    return [
        Predictions(split.labels.numpy().astype(np.uint16), found.astype(np.uint16))
        for split, found in zip(scored, predicted, strict=True)
    ]


def quantise(
    folder: Path, train: Split, scored: Split, name: str, fine_tuned: Exportable | None = None
) -> Quantised:
    """Quantise the ONNX file in an export folder to int8, and evaluate both files.

    Ranges of activations are calibrated on training images. The int8 file is written beside the
    ONNX file, in the QDQ format that all backends of onnxruntime read.

    Args:
        folder: that `export` wrote, with ONNX.
        train: images for calibration; a few hundred suffice.
        scored: images that both files are evaluated on, of the same resolution.
        name: of that split.
        fine_tuned: the network with weights for the int8 file; None for those of the ONNX file.
    """
    with tempfile.TemporaryDirectory() as made:
        if fine_tuned is not None:
            write_onnx(fine_tuned, Path(made))
        prepared = _prepared(folder if fine_tuned is None else Path(made), Path(made))
        _quantise(prepared, folder / INT8, train)
        _copy_metadata(folder / ONNX, folder / INT8)
        before = _accuracy(folder / ONNX, scored)
        after = _accuracy(folder / INT8, scored)
        sensitive = (
            _sensitive_layer(prepared, train, scored) if before - after > LARGE_LOSS else None
        )
    return Quantised(before, after, len(scored), name, sensitive, fine_tuned is not None)


def _prepared(folder: Path, target: Path | None = None) -> Path:
    """Prepare the ONNX file of a folder for quantisation, and return the prepared file's path."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = (target or folder) / "prepared.onnx"
    quant_pre_process(folder / ONNX, prepared, skip_symbolic_shape=True)
    return prepared


def _quantise(prepared: Path, out: Path, train: Split, float_nodes: Sequence[str] = ()) -> None:
    """Quantise a prepared ONNX file; nodes in `float_nodes` stay in float32."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        prepared,
        out,
        _reader(train),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        nodes_to_exclude=list(float_nodes),
    )


def _copy_metadata(source: Path, target: Path) -> None:
    """Copy the notes of an ONNX file, such as its class names, which quantisation drops."""
    import onnx

    notes = {each.key: each.value for each in onnx.load(source).metadata_props}
    model = onnx.load(target)
    onnx.helper.set_model_props(model, notes)
    onnx.save(model, target)


def _sensitive_layer(prepared: Path, train: Split, scored: Split) -> tuple[str, float] | None:
    """Return the layer that restores the most accuracy if it alone stays in float32."""
    step = max(
        1, len(scored) // _SENSITIVITY_IMAGES
    )  # images are sorted by class: take some of each
    part = replace(scored, images=scored.images[::step], labels=scored.labels[::step])
    found = {}
    for node, layer in _layers(prepared).items():
        path = prepared.with_name("partly.onnx")
        _quantise(prepared, path, train, [node])
        found[layer] = _accuracy(path, part)
    if not found:
        return None
    worst = max(found, key=lambda layer: found[layer])
    return worst, found[worst]


def _layers(path: Path) -> dict[str, str]:
    """Return the layer name of each ONNX node with weights."""
    import onnx

    layers: dict[str, str] = {}
    for node in onnx.load(path).graph.node:
        weights = [name for name in node.input if name.endswith(".weight")]
        if weights:
            layers[node.name] = weights[0].removesuffix(".weight").removesuffix(".conv")
    return layers


def _reader(split: Split) -> object:
    """Return a reader of calibration batches for onnxruntime."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = batches(split, _BATCH)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"images": batch.images.contiguous().numpy()}

    return Reader()


def _accuracy(path: Path, split: Split) -> float:
    """Return the accuracy of an ONNX file on a split."""
    return int((_predicted(path, split) == split.labels).sum()) / len(split)


def _predicted(path: Path, split: Split) -> Tensor:
    """Return the class that an ONNX file predicts for each image of a split, as int64 (N,)."""
    run = run_onnx(path)
    return torch.cat([run(each.images.contiguous()).argmax(1) for each in batches(split, _BATCH)])
