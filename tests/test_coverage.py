"""Coverage of a space: missing references, and resolutions above the photos'."""

from __future__ import annotations

import json
import time

import pytest
from former_spaces import FORMER_V2

from mbsearch.cli import main
from mbsearch.config.budgets import Budget
from mbsearch.config.specification import (
    SearchSpecification,
    load_specification,
    read_specification,
)
from mbsearch.cost.coverage import Gap, oversized
from mbsearch.search.references import fitting_references, missing_references
from mbsearch.space.library import find
from mbsearch.space.size import Size
from mbsearch.space.yaml_source import parse_document

TWENTY = Budget.model_validate({"mult_adds": "20M"})
ALPHA = "alpha: {range: [0.05, 1.4], step: 0.01}"
RESOLUTION = "resolution: {range: [40, 288], step: 8}"


def changed(old: str, new: str) -> SearchSpecification:
    """Return the space v2 with one text of its file replaced, for 20 M and ten classes."""
    text = find("v2").read_text()
    assert old in text
    space = read_specification(parse_document(text.replace(old, new), "v2.yaml")).with_classes(10)
    return space.with_settings({"budgets": (TWENTY,)})


def of_v2(gaps: list[Gap]) -> list[Gap]:
    return [gap for gap in gaps if gap.family == "MobileNetV2"]


@pytest.mark.parametrize("name", ["v2", "mixed"])
def test_packaged_spaces_contain_every_reference(name: str) -> None:
    assert missing_references(load_specification(name)) == []
    assert missing_references(load_specification(name).with_classes(10)) == []


def test_a_gap_names_the_key_that_excludes_a_reference() -> None:
    (gap,) = of_v2(missing_references(changed(ALPHA, "alpha: {range: [0.35, 1.4], step: 0.01}")))
    assert gap.key == "alpha"
    fitting = fitting_references("mobilenet_v2", TWENTY, num_classes=10, published=False)
    outside = [network for network in fitting if network.alpha < 0.35]
    assert list(gap.references) == outside
    first = outside[0]
    assert str(gap) == (
        f"at 20 M Mult-Adds MobileNetV2 is alpha {first.alpha:g} at {first.resolution} "
        f"(and {len(outside) - 1} more): `alpha` starts at 0.35"
    )


@pytest.mark.parametrize(
    ("old", "new", "family", "key", "reason"),
    [
        (RESOLUTION, "resolution: {choices: [96, 128]}", "MobileNetV2", "resolution", "starts at"),
        ("[multiple_of_8, truncate]", "[multiple_of_8]", "MobileNetV1", "rounding", "has multiple"),
        ("[16, 32, 64]", "[32, 64]", "MobileNetV3-small", "stem.channels", "starts at 32"),
        ("[1, 2, 3, 4, 6]", "[1, 2, 3]", "MobileNetV2", "stages.1.expansion", "ends at 3"),
        ("channels: 1024", "channels: 960", "MobileNetV1", "stages.4.channels", "has 960"),
        ("hidden: 1024", "hidden: 1280", "MobileNetV3-small", "head.hidden", "has 1280"),
    ],
)
def test_gaps_name_keys_of_every_kind(
    old: str, new: str, family: str, key: str, reason: str
) -> None:
    found = [gap for gap in missing_references(changed(old, new)) if gap.family == family]
    assert key in [gap.key for gap in found]
    assert any(gap.reason.startswith(reason) for gap in found if gap.key == key)


def test_gaps_of_a_space_without_budgets_are_those_of_round_ones() -> None:
    space = load_specification(FORMER_V2)
    bare = space.with_settings({"limits": type(space.settings.limits)()})
    budgets = {gap.budget for gap in missing_references(bare)}
    assert {"10 M Mult-Adds", "20 M Mult-Adds", "50 M Mult-Adds"} <= budgets


def test_missing_references_are_found_within_two_seconds() -> None:
    space = load_specification("v2").with_classes(10)
    start = time.process_time()
    missing_references(space)
    assert time.process_time() - start < 2


def test_resolutions_above_the_photos_are_listed() -> None:
    assert oversized(load_specification("v2"), 160) == [
        Size.square(side) for side in range(168, 289, 8)
    ]
    assert oversized(load_specification("v2"), 288) == []
    fixed = changed(RESOLUTION, "resolution: 224")
    assert oversized(fixed, 160) == [Size.square(224)]
    assert oversized(changed(RESOLUTION + "\n", ""), 160) == [Size.square(224)]


@pytest.mark.slow
def test_count_prints_missing_references(capsys: pytest.CaptureFixture[str]) -> None:
    for name, words in (
        ("v2", "MobileNet V1, V2 and V3-small are in the space at every budget"),
        ("tiny", "outside the space: at 30 M Mult-Adds MobileNetV2 is alpha"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["count", name, "--classes", "10"])
        assert ended.value.code == 0
        assert words in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["count", "tiny", "--classes", "10", "--json"])
    lines = json.loads(capsys.readouterr().out)["missing_references"]
    assert any("`alpha` ends at 0.5" in line for line in lines)
