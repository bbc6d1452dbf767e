"""The worst errors of a network: their order, their pictures, what is shown without images."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answer_records import evaluation, network
from PIL import Image
from torch import nn

from mbsearch.analysis.findings import Findings
from mbsearch.analysis.kept_predictions import KeptPredictions
from mbsearch.analysis.worst_errors import ErrorPictures, PictureRequest, worst_errors
from mbsearch.dashboard.errors_panel import errors_panel
from mbsearch.dashboard.picture_reader import PictureReader
from mbsearch.dashboard.studies import Snapshot
from mbsearch.data.batches import Split
from mbsearch.data.error_pictures import SIDE, error_pictures
from mbsearch.data.sources import load_source
from mbsearch.report.html import document
from mbsearch.study.records import Predictions
from mbsearch.training.loop import evaluated

BILINEAR = Image.Resampling.BILINEAR


def kept(labels: list[int], predicted: list[int], confidence: list[int] | None = None) -> Any:
    scale = None if confidence is None else np.array(confidence, np.uint8)
    return Predictions(np.array(labels, np.uint16), np.array(predicted, np.uint16), scale)


def test_worst_errors_are_of_most_seeds_then_of_most_confidence() -> None:
    first = kept([0, 1, 2, 0], [1, 1, 0, 2], [100, 255, 204, 51])
    second = kept([0, 1, 2, 0], [2, 1, 0, 0], [255, 255, 204, 255])
    errors = worst_errors([first, second])
    assert [each.position for each in errors] == [2, 0, 3]
    assert errors[0].caption(("cat", "dog", "owl")) == "cat, confidence 0.80, 2 of 2 seeds"
    assert errors[1].seeds == 2
    assert (errors[2].predicted, errors[2].seeds) == (2, 1)
    assert [each.position for each in worst_errors([first], most=1)] == [2]


def test_predictions_of_earlier_studies_have_no_confidence() -> None:
    early = kept([0, 1], [1, 1])
    assert Predictions.from_dict(early.to_dict()).confidence is None
    (error,) = worst_errors([early])
    assert error.caption(("cat", "dog")) == "dog"
    several = kept([0, 0, 0, 1, 2], [1, 1, 2, 1, 0])
    assert [each.position for each in worst_errors([several], most=3)] == [0, 2, 4], "every kind"


def test_confidences_survive_the_study() -> None:
    found = Predictions.from_dict(kept([0, 1], [1, 1], [7, 255]).to_dict())
    assert found.confidence is not None
    assert found.confidence.tolist() == [7, 255]


def test_confidence_is_the_probability_of_the_predicted_class() -> None:
    class Brightness(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            red = images.mean((1, 2, 3))
            return torch.stack([red, torch.zeros_like(red)], 1)

    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    split = Split(images.contiguous(), torch.tensor([0, 0]), (0.5,), (0.25,), 2)
    _, found = evaluated(Brightness(), split, torch.device("cpu"))
    assert found.predicted.tolist() == [1, 0]
    assert found.confidence is not None
    assert found.confidence.tolist() == [round(255 / (1 + np.exp(-2)))] * 2


def embedded(positions: tuple[int, ...], **changes: Any) -> PictureRequest:
    source = load_source("embedded", seed=3)
    stamp = {"data": "embedded", "data_key": source.study_key, "seed": 3}
    labels = source.members["validation"].labels.astype(np.uint16)
    request = PictureRequest({"stamp": stamp}, "validation", labels, positions)
    return replace(request, **changes)


def test_pictures_are_the_images_at_the_positions() -> None:
    source = load_source("embedded", seed=3)
    positions = (5, 0, 700)
    found = error_pictures(embedded(positions))
    assert found.problem == ""
    members = source.members["validation"]
    for file, position in zip(found.files, positions, strict=True):
        picture = np.asarray(Image.open(io.BytesIO(file)), float)
        assert picture.shape == (SIDE, SIDE)
        image = members.pool.open(int(members.rows[position])).resize((SIDE, SIDE), BILINEAR)
        assert np.abs(picture - np.asarray(image, float)).mean() < 4, "JPEG, not exact"
    assert sum(map(len, found.files)) < 12 * 2**10


def test_other_images_are_named_as_the_problem(tmp_path: Path) -> None:
    request = embedded((1,))
    other = replace(request, labels=request.labels[::-1].copy())
    assert "expected the images of the study, got others" in error_pictures(other).problem
    stamp = {**request.settings["stamp"], "data": str(tmp_path / "gone")}
    gone = error_pictures(replace(request, settings={"stamp": stamp}))
    assert f"{tmp_path / 'gone'}: expected the study's images, got no such folder" in gone.problem
    assert gone.files == ()


def test_a_request_for_pictures_survives_json() -> None:
    request = embedded((1, 2))
    found = PictureRequest.from_json(request.to_json())
    assert (found.settings, found.split, found.positions) == (
        request.settings,
        "validation",
        (1, 2),
    )
    assert np.array_equal(found.labels, request.labels)
    pictures = ErrorPictures((b"a", b"b"), "")
    assert ErrorPictures.from_json(pictures.to_json()) == pictures


@pytest.mark.slow
def test_pictures_are_read_in_another_process() -> None:
    request = embedded((5, 0))
    reader = PictureReader()
    assert reader.read("a", request) == error_pictures(request)
    assert reader.read("a", request) is reader.read("a", request)


def test_the_panel_has_captions_before_the_pictures_are_read(tmp_path: Path) -> None:
    record = replace(network(0, 0.7, 10**7), finals=(evaluation(0.9, kept=True),))
    snapshot = Snapshot("a", "a", tmp_path, records=(record,))
    panel = str(errors_panel(snapshot, record))
    assert "Reading the images." in panel
    assert panel.count("Figcaption") == 12
    (final,) = record.finals
    assert final.predictions is not None
    request = PictureRequest.of({}, KeptPredictions("validation", [final.predictions]), [])
    assert request.positions == ()


def test_the_report_has_the_errors_of_the_answer() -> None:
    record = replace(network(0, 0.7, 10**7), finals=(evaluation(0.9, kept=True),))
    report = document(Findings([record]), "a")
    assert "<h2>Where trial 0 errs</h2>" in report
    assert "The images cannot be shown: the report was made without them." in report
    assert report.count("<strong>class 0</strong> as class 1") == 12
    pictures = ErrorPictures(tuple(bytes([i]) for i in range(12)))
    shown = document(Findings([record]), "a", read_pictures=lambda _kept, _errors: pictures)
    assert shown.count('<img src="data:image/jpeg;base64,') == 12
    assert "cannot be shown" not in shown
    assert "errs</h2>" not in document(Findings([network(0, 0.7, 10**7)]), "a")
