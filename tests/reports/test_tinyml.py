"""The packaged space for microcontrollers, searched from the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import Mbsearch

SPACE = Path(__file__).parents[2] / "search_spaces" / "tinyml.yaml"
QUICK = "{resolution_scale: 0.5, epochs: 1, train_images: 200, validation_images: 100}"


@pytest.mark.slow
def test_a_search_on_grey_images_answers_within_the_boards_ram_and_flash(
    mbsearch: Mbsearch, tmp_path: Path
) -> None:
    text = SPACE.read_text().replace("{resolution_scale: 0.5}", QUICK)
    (tmp_path / "quick.yaml").write_text(text.replace("references: auto", "references: none"))
    search = ("run", "--space", "quick.yaml", "--name", "tinyml", "--trials", "2", "--jobs", "1")
    found = mbsearch(*search, "--board", "nano33ble", "--finals", "0")
    assert found.code == 0, found.text
    answer = r"At 1 MiB of flash and 256 KiB of RAM: use .* of flash and .* KiB of RAM, validation"
    assert re.search(answer, found.text)
    formats = ("--formats", "onnx", "--int8")
    found = mbsearch("export", "results/tinyml", "--trial", "0", *formats, "-o", "out")
    assert found.code == 0, found.text
    card = (tmp_path / "out" / "README.md").read_text()
    assert "float32 (1, 1, " in card
    assert "Input: grey, upright" in card
    assert "int8 classifies" in card
