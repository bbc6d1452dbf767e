"""The loss by a ReLU in few dimensions: probabilities, docs, picture."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mbsearch.analysis.relu_loss import (
    DIMENSIONS,
    ReluLoss,
    reconstructed_spirals,
    relu_losses,
    spiral,
)
from mbsearch.cli import main
from mbsearch.figures.relu_spirals import relu_spirals

PAGE = Path(__file__).parents[1] / "docs" / "experiments" / "relu.md"


@pytest.fixture(scope="module")
def losses() -> list[ReluLoss]:
    return relu_losses()


def test_lost_points_are_those_with_fewer_than_two_positive_of_n_fair_signs(
    losses: list[ReluLoss],
) -> None:
    for loss in losses:
        n = loss.dimensions
        assert loss.unrecoverable == pytest.approx((1 + n) / 2**n, abs=0.02)


def test_the_error_falls_with_the_dimensions_and_is_that_of_no_information_at_most(
    losses: list[ReluLoss],
) -> None:
    means = [loss.error.mean for loss in losses]
    assert means == sorted(means, reverse=True)
    assert all(loss.error.low < loss.error.mean < loss.error.high < 1 for loss in losses)


def test_points_with_all_coordinates_positive_are_mapped_back_along_a_line() -> None:
    # Where both coordinates are positive, the inverse of T returns the point, up to the scale.
    points, back = spiral(), reconstructed_spirals()[2]
    matrix = np.random.default_rng(0).standard_normal((1, max(DIMENSIONS), 2))[0, :2]
    kept = ((matrix @ points) > 0).all(axis=0)
    assert 0 < kept.sum() < points.shape[1]
    scales = np.linalg.norm(back[:, kept], axis=0) / np.linalg.norm(points[:, kept], axis=0)
    assert scales == pytest.approx(scales[0])


def test_numbers_and_picture_of_the_page_are_those_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], losses: list[ReluLoss]
) -> None:
    picture = tmp_path / "relu.svg"
    with pytest.raises(SystemExit) as ended:
        main(["explain", "relu", "--output", str(picture), "--json"])
    assert ended.value.code == 0
    assert [row["dimensions"] for row in json.loads(capsys.readouterr().out)] == list(DIMENSIONS)
    rows = re.findall(
        r"^\| (\d+) \| ([\d.]+) \| ([\d.]+ to [\d.]+) \| ([\d.]+) % \|", PAGE.read_text(), re.M
    )
    assert rows == [
        (
            str(loss.dimensions),
            f"{loss.error.mean:.3f}",
            loss.error.bounds(),
            f"{100 * loss.unrecoverable:.1f}",
        )
        for loss in losses
    ]
    drawn = re.findall(r"\d+\.\d", picture.read_text())
    shown = re.findall(r"\d+\.\d", PAGE.with_name("relu.svg").read_text())
    # The last digit of a pixel may differ between machines.
    assert [float(a) for a in drawn] == pytest.approx([float(b) for b in shown], abs=0.11)


def test_every_panel_draws_the_whole_spiral_in_its_bounds() -> None:
    text = relu_spirals(spiral(), reconstructed_spirals())
    assert text.count("<text") == 1 + len(DIMENSIONS)
    width, height = map(float, re.findall(r'viewBox="0 0 (\d+) (\d+)"', text)[0])
    for points in re.findall(r'points="([^"]+)"', text):
        corners = np.array([corner.split(",") for corner in points.split()], float)
        assert ((corners >= 0) & (corners <= (width, height))).all()
