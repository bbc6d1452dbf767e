"""The int8 network as C source: a compiler reads it, and the header has what a program needs."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from blocky_images import blocky_images
from exportable_network import exportable
from test_export import EVERY_BLOCK

from mbsearch.errors import ExportError
from mbsearch.export import formats
from mbsearch.export.formats import export
from mbsearch.export.int8_network import int8_network
from mbsearch.export.litert_int8 import litert_file
from mbsearch.space.architecture import Architecture

if TYPE_CHECKING:
    from mbsearch.export.exportable import Exportable

pytest.importorskip("ai_edge_litert")
CLASSES = ("ends in \\", "*/ int x;", "Bär\nzwei", 'a "b"', "??/", "e", "f")
PROGRAM = r"""
#include <stdint.h>
#include <stdio.h>
#include "network_int8.h"
int main(void) {
  printf("%d %d %d %.9e %d\n", (int)((uintptr_t)network_int8 % 16), (int)sizeof network_int8,
         NETWORK_INT8_CLASSES, NETWORK_INT8_INPUT_SCALE, NETWORK_INT8_INPUT_ZERO_POINT);
  return fwrite(network_int8, 1, NETWORK_INT8_BYTES, stderr) != NETWORK_INT8_BYTES;
}
"""


def quantised(architecture: Architecture = EVERY_BLOCK, seed: int = 0) -> Exportable:
    given = exportable(architecture, seed)
    train = blocky_images(16, architecture.image_format)
    network = int8_network(architecture, given.module, train)
    return replace(given, class_names=CLASSES, int8=network)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exportable, Path]:
    given, folder = quantised(), tmp_path_factory.mktemp("written")
    for each in export(given, folder, ("litert-int8", "c-array")):
        assert each.error is not None
        assert each.error < formats.INT8_TOLERANCE
    return given, folder


@pytest.mark.parametrize("language", ["c", "c++"])
def test_a_compiler_reads_the_aligned_bytes_of_the_file(
    written: tuple[Exportable, Path], tmp_path: Path, language: str
) -> None:
    compiler = shutil.which("cc" if language == "c" else "c++")
    if compiler is None:
        pytest.skip(f"no compiler for {language}")
    given, folder = written
    assert given.int8 is not None
    (tmp_path / "main.c").write_text(PROGRAM)
    options = ["-x", language, "-Wall", "-Wextra", "-Werror", "-I", str(folder)]
    files = [str(tmp_path / "main.c"), str(folder / "network_int8.c")]
    program = tmp_path / "program"
    subprocess.run([compiler, *options, *files, "-o", str(program)], check=True)
    done = subprocess.run([str(program)], check=True, capture_output=True)
    content = (folder / "network_int8.tflite").read_bytes()
    assert done.stderr == content == litert_file(given.int8)
    offset, size, classes, scale, zero_point = done.stdout.split()
    assert (int(offset), int(size), int(classes)) == (0, len(content), 7)
    assert float(scale) == pytest.approx(given.int8.input.scale, rel=1e-6)
    assert int(zero_point) == given.int8.input.zero_point


def test_the_header_lists_operators_and_classes(written: tuple[Exportable, Path]) -> None:
    header = (written[1] / "network_int8.h").read_text(encoding="ascii")
    listed = re.findall(r"^//   (Add\w+)\(\)$", header, re.MULTILINE)
    assert f"MicroMutableOpResolver<{len(listed)}>" in header
    assert {"AddConv2D", "AddDepthwiseConv2D", "AddMean", "AddReshape"} <= set(listed)
    assert re.findall(r"^//   (\d) ", header, re.MULTILINE) == list("0123456")


def test_tensorflow_lite_micro_runs_in_an_arena_of_the_headers_size(
    written: tuple[Exportable, Path],
) -> None:
    pytest.importorskip("tflite_micro")  # pip install tflite-micro: Linux on x86 only
    from tflite_micro.python.tflite_micro import runtime

    given, folder = written
    assert given.int8 is not None
    header = (folder / "network_int8.h").read_text(encoding="ascii")
    (arena,) = re.findall(r"NETWORK_INT8_ARENA_BYTES (\d+)", header)
    content = (folder / "network_int8.tflite").read_bytes()
    interpreter = runtime.Interpreter.from_bytes(content, arena_size=int(arena))
    images = given.int8.input.quantise(given.int8.examples[:1]).permute(0, 2, 3, 1)
    interpreter.set_input(images.contiguous().numpy(), 0)
    interpreter.invoke()
    logits = given.int8.output.real(torch.from_numpy(interpreter.get_output(0).copy()))
    simulated = given.int8.simulate(given.int8.examples[:1])
    assert (logits - simulated).norm() < formats.INT8_TOLERANCE * simulated.norm()


def test_a_file_of_other_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, other, litert = quantised(), quantised(seed=1), formats.FORMATS["litert-int8"]
    wrong = replace(litert, write=lambda _, folder: litert.write(other, folder))
    monkeypatch.setitem(formats.FORMATS, "litert-int8", wrong)
    with pytest.raises(ExportError, match=r"network_int8.tflite: expected the logits"):
        export(given, tmp_path / "out", ("litert-int8",))
    assert not (tmp_path / "out").exists()
    *_, written = export(given, tmp_path / "out", ("yaml", "litert-int8"))
    assert written.error is None, "it does not cost the others"
    assert "network_int8.tflite: expected the logits" in (written.note or "")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["architecture.yaml"]


def test_int8_files_without_calibration_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="expected training images for calibration, got none"):
        export(exportable(EVERY_BLOCK), tmp_path / "out", ("litert-int8",))
