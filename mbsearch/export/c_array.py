"""The int8 file of LiteRT as a C array with a header, for TensorFlow Lite Micro."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from mbsearch.cost import measure
from mbsearch.export.exportable import Exportable, Runner
from mbsearch.export.int8_network import Int8Network, Quantisation
from mbsearch.export.litert_int8 import litert_file, operator_names, run_litert_int8

C_SOURCE = "network_int8.c"
C_HEADER = "network_int8.h"
_BYTES_PER_LINE = 16
# Structures of TensorFlow Lite Micro beside the feature maps, as its interpreter on a 64-bit
# machine reports them; those of a microcontroller are smaller.
_CHANNEL_BYTES = 8
_OPERATOR_BYTES = 200
_RUNTIME_BYTES = 4096

_HEADER = """\
// {title}
// TensorFlow Lite Micro runs it: tflite::GetModel(network_int8).
//
// Input: int8, (1, {height}, {width}, {channels}): {input}; then {normalisation}; then
// round(x / NETWORK_INT8_INPUT_SCALE) + NETWORK_INT8_INPUT_ZERO_POINT, from -128 to 127.
// Output: int8, (1, {classes}): the logits are
// NETWORK_INT8_OUTPUT_SCALE * (q - NETWORK_INT8_OUTPUT_ZERO_POINT).
//
// Operators, for a tflite::MicroMutableOpResolver<{operator_count}>:
{operators}
//
// Classes, in the order of the outputs:
{class_lines}

#ifndef NETWORK_INT8_H
#define NETWORK_INT8_H

#ifdef __cplusplus
extern "C" {{
#endif

#define NETWORK_INT8_BYTES {size}
#define NETWORK_INT8_HEIGHT {height}
#define NETWORK_INT8_WIDTH {width}
#define NETWORK_INT8_CHANNELS {channels}
#define NETWORK_INT8_CLASSES {classes}
#define NETWORK_INT8_INPUT_SCALE {input_scale}
#define NETWORK_INT8_INPUT_ZERO_POINT ({input_zero})
#define NETWORK_INT8_OUTPUT_SCALE {output_scale}
#define NETWORK_INT8_OUTPUT_ZERO_POINT ({output_zero})

// Size of the tensor arena: {maps} bytes of feature maps, and the runtime's structures. Kernels
// of other libraries, such as CMSIS-NN, may need a buffer more.
#define NETWORK_INT8_ARENA_BYTES {arena}

extern const unsigned char network_int8[NETWORK_INT8_BYTES];

#ifdef __cplusplus
}}
#endif

#endif  // NETWORK_INT8_H
"""
_SOURCE = """\
#include "{header}"

#include <stdalign.h>

alignas(16) const unsigned char network_int8[NETWORK_INT8_BYTES] = {{
{rows}
}};
"""
_RESOLVERS = {
    "PAD": "AddPad",
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "MEAN": "AddMean",
    "ADD": "AddAdd",
    "MUL": "AddMul",
    "HARD_SWISH": "AddHardSwish",
    "LOGISTIC": "AddLogistic",
    "RESHAPE": "AddReshape",
}
"""Method of the runtime's MicroMutableOpResolver that registers an operator."""


def write_c_array(exportable: Exportable, folder: Path) -> None:
    """Write a network's int8 file as a C source and its header."""
    content = litert_file(exportable.required_int8())
    (folder / C_HEADER).write_text(_header(exportable, len(content)), encoding="ascii")
    source = _SOURCE.format(header=C_HEADER, rows="\n".join(_rows(content)))
    (folder / C_SOURCE).write_text(source, encoding="ascii")


def read_c_array(exportable: Exportable, folder: Path) -> Runner:
    """Return a function that runs the array's content with LiteRT."""
    text = (folder / C_SOURCE).read_text(encoding="ascii").partition("] = {")[2]
    return run_litert_int8(bytes.fromhex("".join(re.findall(r"0x([0-9a-f]{2})", text))))


def _rows(content: bytes) -> Iterator[str]:
    """Yield the lines of the array."""
    for start in range(0, len(content), _BYTES_PER_LINE):
        part = content[start : start + _BYTES_PER_LINE]
        yield f"  0x{part.hex(',').replace(',', ',0x')},"


def _header(exportable: Exportable, size: int) -> str:
    network = exportable.required_int8()
    _, channels, height, width = network.examples.shape
    operators = operator_names(network)
    known = exportable.normalisation
    # In quotes: a backslash at the end would continue the comment.
    names = [json.dumps(name) for name in exportable.class_names] or ["unknown"]
    maps = measure(exportable.architecture.replace(resolution=exportable.images.size))["ram_bytes"]
    return _HEADER.format(
        title=json.dumps(exportable.title)[1:-1],
        input=exportable.input_text,
        normalisation="normalised as in training" if known is None else known,
        operators="\n".join(f"//   {_RESOLVERS[name]}()" for name in operators),
        operator_count=len(operators),
        class_lines="\n".join(f"//   {i} {name}" for i, name in enumerate(names)),
        size=size,
        height=height,
        width=width,
        channels=channels,
        classes=exportable.architecture.num_classes,
        input_scale=_scale(network.input),
        input_zero=network.input.zero_point,
        output_scale=_scale(network.output),
        output_zero=network.output.zero_point,
        maps=maps,
        arena=maps + _runtime_bytes(network),
    )


def _runtime_bytes(network: Int8Network) -> int:
    """Return the size of the runtime's structures in the tensor arena."""
    channels = sum(len(each.bias) for each in network.operators if each.bias is not None)
    found = channels * _CHANNEL_BYTES + len(network.operators) * _OPERATOR_BYTES + _RUNTIME_BYTES
    return -(-found // 16) * 16


def _scale(quantisation: Quantisation) -> str:
    return f"{quantisation.scale:.9e}f"
