from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.specification import SearchSpecification, load_specification
from mbsearch.space.size import Size

SPACE = """
name: small
resolution: {resolution}
stem: {{channels: 16}}
stages:
  - {{block: inverted_residual, channels: 16, expansion: {{choices: [3, 6]}}}}
head: {{channels: 64}}
{more}
"""


def space(folder: Path, resolution: str = "32", more: str = "") -> SearchSpecification:
    path = folder / "space.yaml"
    path.write_text(SPACE.format(resolution=resolution, more=more))
    return load_specification(path)


@pytest.mark.parametrize(
    ("resolution", "scale"),
    [("32", 1.0), ("28", 1.0), ("64", 0.5), ("{choices: [48, 64]}", 0.5), ("224", 0.25)],
)
def test_the_largest_resolution_is_scaled_to_32_pixels_at_least(
    tmp_path: Path, resolution: str, scale: float
) -> None:
    """A quarter of 32 pixels would be too small."""
    loaded = space(tmp_path, resolution)
    assert loaded.settings.proxy.resolution_scale == scale
    path = tmp_path / "again.yaml"
    path.write_text(loaded.to_yaml())
    assert load_specification(path) == loaded


def test_a_given_resolution_scale_is_kept(tmp_path: Path) -> None:
    loaded = space(tmp_path, more="proxy: {resolution_scale: 0.25}")
    assert loaded.settings.proxy.pixels(Size.square(32)) == Size.square(8)
    again = tmp_path / "again.yaml"
    again.write_text(loaded.to_yaml())
    assert load_specification(again) == loaded, "also after a round trip through YAML"


def test_a_supernet_has_defaults_of_its_own(tmp_path: Path) -> None:
    inherited = space(tmp_path, more="proxy: {evaluator: supernet, warmup: 0.3}").settings.proxy
    assert inherited.epochs == 1 < Proxy().epochs
    assert inherited.learning_rate < Proxy().learning_rate
    assert inherited.warmup == 0.3


def test_a_supernet_with_the_epochs_of_plain_training_reads_back(tmp_path: Path) -> None:
    loaded = space(tmp_path, more=f"proxy: {{evaluator: supernet, epochs: {Proxy().epochs}}}")
    again = tmp_path / "again.yaml"
    again.write_text(loaded.to_yaml())
    assert load_specification(again) == loaded
    assert yaml.safe_load(loaded.to_yaml())["proxy"]["epochs"] == Proxy().epochs


def test_changing_the_evaluator_changes_only_defaults() -> None:
    there = Proxy(batch_size=32, epochs=7).starting_from("supernet")
    assert (there.batch_size, there.epochs) == (32, 7)
    assert there.train_images == Proxy(evaluator="supernet").train_images
    assert there.starting_from("training") == Proxy(batch_size=32, epochs=7)
