from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from exportable_network import exportable
from torch import Tensor

from mbsearch.data.batches import Split, batches
from mbsearch.export import quantization as int8
from mbsearch.export.graphs import INT8, run_onnx, write_onnx
from mbsearch.export.quantization import Quantised, quantise
from mbsearch.space.architecture import Architecture

SMALL = Architecture.model_validate(
    {
        "resolution": 16,
        "num_classes": 5,
        "stem": {"channels": 16},
        "stages": [{"block": "separable", "channels": 32, "repeats": 2}],
    }
)


def labelled(count: int, run: object | None = None) -> Split:
    """Random images, which carry the labels that a network gives them."""
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
    split = Split(images, torch.zeros(count, dtype=torch.int64), (0.5,) * 3, (0.29,) * 3, 5)
    if run is None:
        return split
    (batch,) = [x for x, *_ in batches(split, count)]
    labels: Tensor = run(batch.contiguous()).argmax(1)  # type: ignore[operator]
    return Split(images, labels, split.mean, split.std, 5)


@pytest.mark.slow
def test_int8_is_smaller_and_nearly_as_accurate_and_names_a_layer_only_after_a_large_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This seed's network stays intact if an x86 processor without VNNI cuts sums off at 16 bits.
    write_onnx(exportable(SMALL, seed=1), tmp_path)
    scored = labelled(200, run_onnx(tmp_path / "model.onnx"))
    found = quantise(tmp_path, labelled(64), scored, "validation")
    assert (found.before, found.images) == (1.0, 200)
    assert 0.85 < found.after <= 1.0
    operators = {node.op_type for node in onnx.load(tmp_path / INT8).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators
    stored = {i.data_type for i in onnx.load(tmp_path / INT8).graph.initializer}
    assert onnx.TensorProto.INT8 in stored
    assert found.sensitive is None
    monkeypatch.setattr(int8, "LARGE_LOSS", -1.0)
    sensitive = quantise(tmp_path, labelled(64), scored, "validation").sensitive
    assert sensitive is not None
    assert sensitive[0] in {placed.name for placed in SMALL.layers()}
    assert sensitive[1] >= found.after - 0.02, "with one layer in float32 it is hardly worse"
    monkeypatch.setattr(int8, "_SENSITIVITY_IMAGES", 4)
    order = scored.labels.argsort()  # as images lie on the disk
    sorted_ = replace(scored, images=scored.images[order], labels=scored.labels[order])
    seen: list[set[int]] = []
    accuracy = int8._accuracy

    def watched(path: Path, split: Split) -> float:
        seen.append(set(split.labels.tolist()))
        return accuracy(path, split)

    monkeypatch.setattr(int8, "_accuracy", watched)
    quantise(tmp_path, labelled(64), sorted_, "validation")
    assert len(seen[-1]) > 1, "the sensitive layer is scored on several classes"


def test_the_sentence_gives_both_accuracies_and_the_sensitive_layer() -> None:
    held = Quantised(0.9, 0.89, 100, "test").sentence()
    assert held == "int8 classifies 0.8900 of 100 test images correctly, float32 0.9000."
    collapsed = Quantised(0.9, 0.2, 100, "test", ("stages.1.0.depthwise", 0.81)).sentence()
    assert "a large loss" in collapsed
    assert "stages.1.0.depthwise: with it alone in float32 the accuracy is 0.8100." in collapsed
