"""Put scaling, mean and deviation into ONNX files, which then take images of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mbsearch.data.readers import Pixels
from mbsearch.errors import ExportError
from mbsearch.export.exported_file import open_exported
from mbsearch.export.graphs import INT8, float_input
from mbsearch.export.preprocessing import Preprocessing

BYTE_INPUT = "uint8, (batch, height, width, channels), not normalised"
"""Description of the input in the metadata, in place of `float_input`."""

_TOLERANCE = 1e-5
# A rounding error of the normalisation moves some pixels to the next of 256 levels.
_INT8_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class PreprocessedFile:
    """An ONNX file that takes bytes, and the relative error of its logits.

    The error is that to the file without preprocessing, on `images` images of the study.
    """

    file: str
    error: float
    images: int


def put_preprocessing(path: Path, preprocessing: Preprocessing, images: Pixels) -> PreprocessedFile:
    """Replace an ONNX file by one that takes bytes, uint8 (N, H, W, C), and compare the two.

    Args:
        path: an exported file, float or int8.
        preprocessing: that of its images.
        images: that both files classify, uint8 (N, H, W, C).

    Raises:
        ExportError: the logits differ.
    """
    made = path.with_name(f".bytes.{path.name}")
    try:
        expected = open_exported(path).run(images)
        _write(path, made, preprocessing)
        found = open_exported(made).run(images)
        error = float((found - expected).norm() / expected.norm())
        allowed = _INT8_TOLERANCE if path.name == INT8 else _TOLERANCE
        if not error <= allowed:
            raise ExportError(
                f"{path.name}: expected the logits of the file without preprocessing to a relative "
                f"error of {allowed:.0e}, got {error:.1e}"
            )
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
    return PreprocessedFile(path.name, error, len(images))


def _write(source: Path, target: Path, preprocessing: Preprocessing) -> None:
    """Write an ONNX file with bytes, channels last, in place of normalised floats."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(source)
    graph = model.graph
    (given,) = graph.input
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == given.name:
                node.input[i] = "normalised_images"
    sides = (preprocessing.height, preprocessing.width, preprocessing.channels)
    taken = helper.make_tensor_value_info(given.name, TensorProto.UINT8, ("batch", *sides))
    steps = (
        helper.make_node("Transpose", [given.name], ["image_bytes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["image_bytes"], ["image_floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["image_floats", "pixel_scale"], ["scaled_images"]),
        helper.make_node("Add", ["scaled_images", "pixel_offset"], ["normalised_images"]),
    )
    for position, step in enumerate(steps):
        graph.node.insert(position, step)
    scale, offset = preprocessing.scale_and_offset()
    for name, values in (("pixel_scale", scale), ("pixel_offset", offset)):
        graph.initializer.append(onnx.numpy_helper.from_array(values[:, None, None].numpy(), name))
    graph.input[0].CopyFrom(taken)
    notes = {each.key: each.value for each in model.metadata_props}
    notes["input"] = notes["input"].replace(float_input(preprocessing.channels), BYTE_INPUT)
    notes["normalisation"] = f"in this file: {notes['normalisation']}"
    helper.set_model_props(model, notes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)


def channels_last(images: Tensor, channels: int) -> Pixels:
    """Return images (N, C, H, W) as (N, H, W, channels), grey ones repeated."""
    repeated: Pixels = images.expand(-1, channels, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
    return repeated
