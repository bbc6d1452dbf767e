"""Post-training quantisation of an exported ONNX file to int8, and what it costs in accuracy."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbsearch.data.batches import Split, batches
from mbsearch.export.graphs import INT8, ONNX, run_onnx

COLLAPSE = 0.05
"""Loss of accuracy from which on a layer is looked for to blame."""
_BLAME_IMAGES = 256
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Quantised:
    """An int8 file: accuracy on the same images before and after, and the layer to blame.

    `blamed` names the layer that brings most back when it alone stays in float32, and the accuracy
    of a part of the images then; None where the accuracy holds. `split` names the images.
    """

    before: float
    after: float
    images: int
    split: str
    blamed: tuple[str, float] | None = None

    def sentence(self) -> str:
        """In words."""
        text = (
            f"int8 classifies {self.after:.4f} of {self.images} {self.split} images rightly, "
            f"float32 {self.before:.4f}"
        )
        if self.blamed is None:
            return f"{text}."
        layer, accuracy = self.blamed
        return (
            f"{text}: it collapses. The layer to blame first is {layer}: with it alone in float32, "
            f"{accuracy:.4f}."
        )


def quantise(folder: Path, train: Split, scored: Split, name: str) -> Quantised:
    """Quantise the ONNX file of an export folder, weights per channel, and score both files.

    Activations get their ranges from training images. The int8 file is beside the other, in the
    QDQ form that all of onnxruntime's backends read.

    Args:
        folder: that `export` wrote, with ONNX.
        train: the images that calibrate; a few hundred do.
        scored: whose images score both files, at the same resolution.
        name: of the split that scores.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as made:
        prepared = Path(made) / "prepared.onnx"
        quant_pre_process(folder / ONNX, prepared, skip_symbolic_shape=True)
        _quantise(prepared, folder / INT8, train)
        before = _accuracy(folder / ONNX, scored)
        after = _accuracy(folder / INT8, scored)
        blamed = _blame(prepared, train, scored) if before - after > COLLAPSE else None
    return Quantised(before, after, len(scored), name, blamed)


def _quantise(prepared: Path, out: Path, train: Split, spared: Sequence[str] = ()) -> None:
    """Write the int8 file of a prepared one; nodes of the names in `spared` stay in float32."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        prepared,
        out,
        _reader(train),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        nodes_to_exclude=list(spared),
    )


def _blame(prepared: Path, train: Split, scored: Split) -> tuple[str, float] | None:
    """The layer that, alone spared from quantisation, brings most of the accuracy back."""
    step = max(1, len(scored) // _BLAME_IMAGES)  # some of every class: they lie in its order
    part = replace(scored, images=scored.images[::step], labels=scored.labels[::step])
    found = {}
    for node, layer in _layers(prepared).items():
        spared = prepared.with_name("spared.onnx")
        _quantise(prepared, spared, train, [node])
        found[layer] = _accuracy(spared, part)
    if not found:
        return None
    worst = max(found, key=lambda layer: found[layer])
    return worst, found[worst]


def _layers(path: Path) -> dict[str, str]:
    """Nodes that hold weights, and the layers that they are."""
    import onnx

    layers: dict[str, str] = {}
    for node in onnx.load(path).graph.node:
        weights = [name for name in node.input if name.endswith(".weight")]
        if weights:
            layers[node.name] = weights[0].removesuffix(".weight").removesuffix(".conv")
    return layers


def _reader(split: Split) -> object:
    """Calibration images as onnxruntime reads them: one dictionary of inputs a batch."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = batches(split, _BATCH)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"images": batch.images.contiguous().numpy()}

    return Reader()


def _accuracy(path: Path, split: Split) -> float:
    """Accuracy of an ONNX file on the images of a split."""
    run = run_onnx(path)
    right = 0
    for images, labels, _ in batches(split, _BATCH):
        right += int((run(images.contiguous()).argmax(1) == labels).sum())
    return right / len(split)
