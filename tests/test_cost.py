from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from former_spaces import FORMER_V2

from mbsearch.cli import main
from mbsearch.config.specification import load_specification
from mbsearch.cost import layer_costs, measure
from mbsearch.errors import SpecError
from mbsearch.space.library import load_reference, space_names

GOLDEN = list(
    csv.DictReader((Path(__file__).parent / "golden" / "exact_counts.csv").read_text().splitlines())
)

# Published rows (millions of Mult-Adds) that differ from the exact count by more than rounding.
# They are known errors of the tables. The last number is the exact count.
ANOMALIES = {
    "V1 README 0.75_224: stem left out": ("mobilenet_v1", 0.75, 224, 317, 325.400448),
    "V1 README 0.75_192: stem left out": ("mobilenet_v1", 0.75, 192, 233, 239.273472),
    "V1 README 0.75_160: stem left out": ("mobilenet_v1", 0.75, 160, 162, 166.3968),
    "V1 README 0.75_128: stem left out": ("mobilenet_v1", 0.75, 128, 104, 106.770432),
    "V1 README 0.25_192: typo for 30": ("mobilenet_v1", 0.25, 192, 34, 30.212608),
    "V1 README 0.50_224: the paper says 149": ("mobilenet_v1", 0.5, 224, 150, 149.497088),
    "V1 paper T4 Conv MobileNet: FC left out": ("conv_mobilenet_v1", 1.0, 224, 4866, 4867.293184),
    "V1 paper T7 1.0-160: truncated": ("mobilenet_v1", 1.0, 160, 290, 290.6752),
    "V1 paper T9 0.5-160: truncated": ("mobilenet_v1", 0.5, 160, 76, 76.5248),
    "V1 paper T12 0.25-224: unexplained": ("mobilenet_v1", 0.25, 224, 45, 41.030272),
    "V1 paper T12 0.25-128: unexplained": ("mobilenet_v1", 0.25, 128, 15, 13.570048),
    "V1 paper T14 second 0.75-128: wrong label": ("mobilenet_v1", 0.75, 128, 166, 106.770432),
    "V1 paper T14 1.0-160: unexplained": ("mobilenet_v1", 1.0, 160, 286, 290.6752),
    "V2 paper T4 MobileNetV1: unexplained": ("mobilenet_v1", 1.0, 224, 575, 568.740352),
    "V2 paper T4 MobileNetV2 1.4: unexplained": ("mobilenet_v2", 1.4, 224, 585, 582.195824),
    "V3 paper T3 Large: README says 217": ("mobilenet_v3_large", 1.0, 224, 219, 216.58976),
    "V3 paper Small: 56 misprinted?": ("mobilenet_v3_small", 1.0, 224, 66, 56.5104),
    "V3 README Small minimalistic": ("mobilenet_v3_small_minimalistic", 1.0, 224, 65, 52.288448),
    "MnasNet README A1 1.0-224: table is high": ("mnasnet_a1", 1.0, 224, 315.2, 311.579072),
}


@pytest.mark.parametrize(
    "row", GOLDEN, ids=[f"{r['model']}-{r['alpha']}-{r['resolution']}" for r in GOLDEN]
)
def test_counts_equal_the_exact_published_ones(row: dict[str, str]) -> None:
    network = load_reference(row["model"]).replace(
        alpha=float(row["alpha"]), resolution=int(row["resolution"])
    )
    costs = measure(network)
    assert costs["mult_adds"] == int(row["mult_adds"])
    assert costs["params"] == int(row["params_trainable"])
    assert costs["weights"] == int(row["weights"])


def test_there_are_59_exact_published_counts() -> None:
    assert len(GOLDEN) == 59


@pytest.mark.parametrize("anomaly", ANOMALIES)
def test_exact_counts_where_published_tables_are_wrong(anomaly: str) -> None:
    name, alpha, resolution, published, exact = ANOMALIES[anomaly]
    count = measure(load_reference(name).replace(alpha=alpha, resolution=resolution))["mult_adds"]
    assert count == round(exact * 1e6)
    assert round(count / 1e6) != published


@pytest.mark.parametrize("options", [[], ["--layers"], ["--json"]])
def test_count_prints_every_total(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["count", "mobilenet_v2", *options])
    assert ended.value.code == 0
    shown = capsys.readouterr().out.replace(",", "")
    for total in measure(load_reference("mobilenet_v2")).values():
        assert str(total) in shown


def test_count_applies_the_number_of_classes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def shown(*arguments: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main(["count", *arguments, "--json"])
        assert ended.value.code == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    ten = shown("mobilenet_v2", "--classes", "10")
    assert shown("mobilenet_v2")["mult_adds"] - ten["mult_adds"] == 1280 * 990
    head = load_specification(FORMER_V2).to_dict()["head"]["channels"]
    less = (
        shown(str(FORMER_V2))["min_mult_adds"]
        - shown(str(FORMER_V2), "--classes", "10")["min_mult_adds"]
    )
    assert less == head * 990


def test_layer_costs_sum_to_the_total() -> None:
    network = load_reference("mobilenet_v3_large")
    rows = layer_costs(network)
    totals = measure(network)
    assert sum(row.mult_adds for row in rows) == totals["mult_adds"]
    assert sum(row.params for row in rows) == totals["params"]
    assert max(row.activation_bytes for row in rows) == totals["peak_activation_bytes"]


def test_peak_memory_of_v2_is_at_its_first_strided_depthwise() -> None:
    # 96 channels at 112 x 112 fall to 56 x 56: both maps are alive together, 4 bytes a value.
    assert measure(load_reference("mobilenet_v2"))["peak_activation_bytes"] == (
        4 * 96 * (112 * 112 + 56 * 56)
    )


def test_activation_memory_includes_open_shortcuts() -> None:
    rows = {row.name: row for row in layer_costs(load_reference("mobilenet_v2"))}
    depthwise = rows["stages.1.1.depthwise"]  # 144 channels at 56 x 56, around it 24 channels
    assert depthwise.activation_bytes == 4 * 56 * 56 * (144 + 144 + 24)


@pytest.mark.parametrize("name", space_names())
def test_costs_rise_with_alpha_and_resolution(name: str) -> None:
    space = load_specification(name)
    for seed in range(20):
        network = space.sample(seed).replace(alpha=0.5, resolution=128)
        costs = measure(network)
        wider, larger = (
            measure(network.replace(alpha=1.0)),
            measure(network.replace(resolution=192)),
        )
        assert costs["params"] == larger["params"]
        assert costs["params"] < wider["params"]
        assert costs["mult_adds"] < min(wider["mult_adds"], larger["mult_adds"])


def test_a_stride_without_a_second_pixel_is_an_error() -> None:
    with pytest.raises(SpecError, match=r"stages\.3\.0\.depthwise: stride 2 leaves no pixels"):
        measure(load_reference("mobilenet_v1").replace(resolution=8))
