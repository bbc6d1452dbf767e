"""The page of all YAML keys is that of the models."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from mbsearch.config.schema import json_schema

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference.md"


def test_the_committed_page_is_current() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "yaml_reference.py"))["reference"]()
    assert PAGE.read_text() == written, "run: python scripts/yaml_reference.py docs/reference.md"


@pytest.mark.parametrize("model", sorted(json_schema()["$defs"]))
def test_every_key_of_the_schema_is_on_the_page(model: str) -> None:
    schema = json_schema()["$defs"][model]
    keys = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.M))
    assert set(schema.get("properties", {})) <= keys


def test_links_of_the_page_lead_to_its_sections() -> None:
    text = PAGE.read_text()
    titles = re.findall(r"^## (.+)$", text, re.M)
    anchors = {re.sub(r"[^a-z_ ]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\(#([^)]+)\)", text)) <= anchors
