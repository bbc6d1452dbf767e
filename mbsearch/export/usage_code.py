"""Python code for the model card that classifies an image file with an exported network."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from mbsearch.data.readers import PADDING
from mbsearch.export.exportable import Exportable, Normalisation
from mbsearch.export.graphs import INT8, ONNX, PROGRAM
from mbsearch.export.litert_int8 import LITERT_INT8
from mbsearch.export.python_files import SOURCE, TIMM, WEIGHTS
from mbsearch.space.image_format import Fit

PHOTO = "photo.jpg"
"""Name of the image file in the code."""

# The steps of `mbsearch.data.readers.resized`, for images of 8 bits.
_PREPROCESS = '''\
import numpy as np
from PIL import Image, ImageOps

{constants}

def read(path):
    """Read an image file as a batch of one image: uint8 (1, {last})."""
    image = Image.open(path)
    image.draft(None, {draft})  # decode a large JPEG at a reduced size, as in training
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image{convert}
    image = {fitted}
    return np.asarray(image)[None{axis}]


def preprocess(path):
    """Read an image file as a batch of one image: float32 (1, {shape})."""
    pixels = np.asarray(read(path), np.float32) / 255
    normalised = (pixels - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2))
'''


_FITTED: dict[Fit, str] = {
    "stretch": "image.resize({size}, Image.Resampling.BILINEAR)  # all of it, no crop",
    "crop": "ImageOps.fit(image, {size}, Image.Resampling.BILINEAR)  # the centre",
    "pad": "ImageOps.pad(image, {size}, Image.Resampling.BILINEAR, "
    "({padding},) * len(image.getbands()))",
}


def preprocessing_code(exportable: Exportable, normalisation: Normalisation) -> str:
    """Return code that defines ``read`` and ``preprocess``, which need numpy and Pillow only."""
    convert = '.convert("L").convert("RGB")' if normalisation.grey else '.convert("RGB")'
    images = exportable.images
    width, height = images.size.width, images.size.height
    draft = f"({2 * width}, {2 * height})"
    if not images.size.is_square:  # the size in the file, where a turned image lies on its side
        turned = f"({2 * height}, {2 * width})"
        draft = f"{turned} if image.getexif().get(274, 1) > 4 else {draft}"
    return _PREPROCESS.format(
        constants=normalisation.constants(),
        shape=", ".join(map(str, images.shape)),
        last=f"{height}, {width}, {images.channels}",
        draft=draft,
        fitted=_FITTED[images.fit].format(size=f"({width}, {height})", padding=PADDING),
        convert='.convert("L")' if images.channels == 1 else convert,
        axis=", ..., None" if images.channels == 1 else "",
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
    if LITERT_INT8 in files:
        yield f"LiteRT, `{LITERT_INT8}`", _litert(named=named)
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


def _litert(*, named: bool) -> str:
    classes = 'open("labels.txt", encoding="utf-8").read().split("\\n")'
    return (
        "import numpy as np\nfrom ai_edge_litert.interpreter import Interpreter\n\n"
        f'interpreter = Interpreter("{LITERT_INT8}")\ninterpreter.allocate_tensors()\n'
        "(given,), (found,) = interpreter.get_input_details(), interpreter.get_output_details()\n"
        'scale, zero_point = given["quantization"]\n'
        f'image = preprocess("{PHOTO}").transpose(0, 2, 3, 1)  # channels last\n'
        "pixels = np.clip(np.rint(image / scale) + zero_point, -128, 127)\n"
        'interpreter.set_tensor(given["index"], pixels.astype(np.int8))\n'
        "interpreter.invoke()\n"
        'logits = interpreter.get_tensor(found["index"])\n'
        + (f"classes = {classes}\n" if named else "")
        + _printed("logits[0].argmax()", "classes" if named else None)
    )


def _printed(index: str, names: str | None) -> str:
    return f"print(int({index}))" if names is None else f"print({names}[int({index})])"
