"""Python code for the model card that classifies an image file with an exported network."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mbsearch.export.exportable import Exportable, Normalisation
from mbsearch.export.graphs import INT8, ONNX, PROGRAM
from mbsearch.export.python_files import SOURCE, TIMM, WEIGHTS

PHOTO = "photo.jpg"
"""Name of the image file in the code."""

# The steps of `mbsearch.data.readers.squares`, for images of 8 bits.
_PREPROCESS = '''\
import numpy as np
from PIL import Image, ImageOps

{constants}

def read(path):
    """Read an image file as a batch of one image: uint8 (1, {side}, {side}, 3)."""
    image = Image.open(path)
    image.draft(None, ({twice}, {twice}))  # decode a large JPEG at a reduced size, as in training
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image{convert}
    image = image.resize(({side}, {side}), Image.Resampling.BILINEAR)  # all of it, no crop
    return np.asarray(image)[None]


def preprocess(path):
    """Read an image file as a batch of one image: float32 (1, 3, {side}, {side})."""
    pixels = np.asarray(read(path), np.float32) / 255
    normalised = (pixels - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))
'''


def preprocessing_code(exportable: Exportable, normalisation: Normalisation) -> str:
    """Return code that defines ``read`` and ``preprocess``, which need numpy and Pillow only."""
    convert = '.convert("L").convert("RGB")' if normalisation.grey else '.convert("RGB")'
    return _PREPROCESS.format(
        constants=normalisation.constants(),
        side=exportable.side,
        twice=2 * exportable.side,
        convert=convert,
    )


def usage_blocks(
    exportable: Exportable, files: Collection[str], byte_files: Collection[str] = ()
) -> Iterator[tuple[str, str]]:
    """Yield a title and code for each runnable file.

    The code calls ``preprocess``, or ``read`` for the ONNX files that take bytes.
    """
    named = bool(exportable.class_names)
    torch_end = f'    logits = network(torch.from_numpy(preprocess("{PHOTO}")))\n'
    of_module = _printed("logits[0].argmax()", "CLASSES" if named else None)
    imported = "CLASSES, " if named else ""
    for file in (ONNX, INT8):
        if file in files:
            yield f"onnxruntime, `{file}`", _onnx(file, named=named, takes_bytes=file in byte_files)
    if SOURCE in files:
        yield (
            f"PyTorch, `{SOURCE}` and `{WEIGHTS}`",
            "import torch\nfrom safetensors.torch import load_file\n\n"
            f"from model import {imported}Network\n\n"
            f'network = Network()\nnetwork.load_state_dict(load_file("{WEIGHTS}"))\n'
            f"network.eval()\nwith torch.inference_mode():\n{torch_end}{of_module}",
        )
    if PROGRAM in files:
        yield (
            f"PyTorch without source, `{PROGRAM}`",
            f'import torch\n\nnetwork = torch.export.load("{PROGRAM}").module()\n'
            f"with torch.inference_mode():\n{torch_end}{_printed('logits[0].argmax()', None)}",
        )
    if TIMM in files:
        yield (
            f"timm, `{TIMM}`",
            f"import torch\n\nfrom timm_model import {imported}load\n\nnetwork = load()\n"
            f"with torch.inference_mode():\n{torch_end}{of_module}",
        )


def _onnx(file: str, *, named: bool, takes_bytes: bool) -> str:
    images = f'{"read" if takes_bytes else "preprocess"}("{PHOTO}")'
    classes = 'json.loads(session.get_modelmeta().custom_metadata_map["class_names"])'
    return (
        f"{'import json' + chr(10) * 2 if named else ''}import onnxruntime\n\n"
        f'session = onnxruntime.InferenceSession("{file}")\n'
        f'(logits,) = session.run(None, {{"images": {images}}})\n'
        + (f"classes = {classes}\n" if named else "")
        + _printed("logits[0].argmax()", "classes" if named else None)
    )


def _printed(index: str, names: str | None) -> str:
    return f"print(int({index}))" if names is None else f"print({names}[int({index})])"
