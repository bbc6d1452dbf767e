"""Finals are validated as int8 networks, too: which ones, with what result, where it is kept."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from answer_records import evaluation, network
from fake_evaluator import FakeEvaluator
from noise_images import write_noise_images
from test_finals import search, small

from mbsearch.analysis.tables import to_frame
from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.retrain_settings import Retrain
from mbsearch.data.batches import batches
from mbsearch.data.calibration import calibration_images
from mbsearch.data.sources import load_source
from mbsearch.execution.protocol import Task
from mbsearch.export import quantization
from mbsearch.export.exportable import Exportable
from mbsearch.export.graphs import INT8, run_onnx, write_onnx
from mbsearch.export.quantization import int8_predictions, quantise
from mbsearch.search.int8_validation import SHARE, is_validated, left_out
from mbsearch.space.architecture import Architecture
from mbsearch.space.image_format import ImageFormat
from mbsearch.study.records import Evaluation, Fidelity, Int8Evaluation, Predictions, TrialRecord
from mbsearch.training.long_training import FinalTraining
from mbsearch.training.network import build
from mbsearch.training.proxy import ProxyTraining

TINY = Architecture.model_validate(
    {
        "resolution": 16,
        "num_classes": 2,
        "stem": {"channels": 8},
        "stages": [{"block": "separable", "channels": 16}],
    }
)


def predictions(share: float, images: int = 500) -> Predictions:
    labels = np.zeros(images, np.uint16)
    return Predictions(labels, (np.arange(images) >= share * images).astype(np.uint16))


def with_final(record: TrialRecord, *, int8_seconds: float | None = None) -> TrialRecord:
    final = replace(evaluation(0.9), seconds=10.0, predictions=predictions(0.9))
    if int8_seconds is not None:
        final = replace(final, int8=Int8Evaluation(predictions(0.88), int8_seconds))
    return replace(record, finals=(final,))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"train": 24, "val": 24, "test": 8}
    return write_noise_images(tmp_path_factory.mktemp("noise"), counts)


@pytest.mark.slow
def test_a_final_keeps_the_predictions_of_its_weights_as_the_exported_int8_file_gives_them(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))
    evaluator = ProxyTraining(Proxy(), str(images), device="cpu", int8=int8_predictions)
    task = Task(TINY, 0, fidelity=Fidelity.FINAL, epochs=2, int8=True)
    outcome = evaluator.evaluate(task)
    int8 = outcome.evaluation.int8
    assert int8 is not None
    assert int8.seconds > 0
    assert outcome.weights is not None
    (tmp_path / "weights.pt").write_bytes(outcome.weights)
    trained = build(TINY)
    trained.load_state_dict(torch.load(tmp_path / "weights.pt"))
    write_onnx(Exportable(TINY, trained.eval(), "tiny"), tmp_path)
    source = load_source(str(images), seed=0)
    validation = source.split("validation", 16)
    exported = quantise(
        tmp_path, calibration_images(source, ImageFormat.of(16)), validation, "validation"
    )
    assert int8.accuracy == exported.after
    run = run_onnx(tmp_path / INT8)
    (batch,) = (each.images.contiguous() for each in batches(validation, len(validation)))
    assert int8.predictions.predicted.tolist() == run(batch).argmax(1).tolist()
    assert outcome.evaluation.predictions is not None
    agree = int8.predictions.predicted == outcome.evaluation.predictions.predicted
    assert agree.mean() > 0.8


def test_a_network_that_cannot_be_quantised_is_kept_with_a_warning(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MBSEARCH_CACHE", str(tmp_path / "cache"))

    def broken(*_: object) -> None:
        raise RuntimeError("unsupported operator")

    monkeypatch.setattr(quantization, "_quantise", broken)
    monkeypatch.setattr(quantization, "write_onnx", lambda *_: None)
    monkeypatch.setattr(quantization, "_prepared", lambda folder: folder)
    task = Task(TINY, 0, fidelity=Fidelity.FINAL, epochs=1, int8=True)
    recipe = Retrain(epochs=1, batch_size=8, quantization_aware=True)
    final = ProxyTraining(Proxy(), str(images), device="cpu", int8=int8_predictions)
    retraining = FinalTraining(recipe, 1.0, str(images), tmp_path, int8=int8_predictions)
    for evaluator in (final, retraining):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = evaluator.evaluate(task).evaluation
        assert found.int8 is None
        assert found.predictions is not None
        (line,) = [r.message for r in caplog.records if "int8" in r.message]
        assert line.startswith("no int8 accuracy: network: cannot be quantised to int8")
        assert "(RuntimeError: unsupported operator)" in line


def test_int8_predictions_survive_storage_and_earlier_evaluations_have_none() -> None:
    kept = with_final(network(1, 0.8, 10**7), int8_seconds=3.0).finals[0]
    stored = json.loads(json.dumps(kept.to_dict()))
    read = Evaluation.from_dict(stored)
    assert read.int8 is not None
    assert (read.int8.accuracy, read.int8.seconds) == (0.88, 3.0)
    del stored["int8"]
    assert Evaluation.from_dict(stored).int8 is None


@pytest.mark.parametrize(("wanted", "share"), [(True, 1.0), (False, 0.0)])
def test_the_setting_turns_int8_validation_on_and_off(
    tmp_path: Path, wanted: bool, share: float
) -> None:
    records = search(tmp_path, small(int8=wanted)).records()
    finals = [r for r in records if r.finals]
    validated = [r for r in finals if r.int8_accuracy is not None]
    assert len(validated) == share * len(finals)
    frame = to_frame(records).set_index("trial")
    for record in validated:
        row = frame.loc[record.trial]
        assert row["int8_accuracy"] == record.int8_accuracy
        assert row["int8_accuracy"] == pytest.approx(row["final_accuracy"] - 0.04, abs=0.01)


def test_by_default_int8_validation_takes_at_most_5_percent_of_the_training_time(
    tmp_path: Path,
) -> None:
    """The first validation is expected to take seconds, which a search of tiny trainings lacks."""
    records = search(tmp_path, small(), FakeEvaluator(seconds=0.01)).records()
    assert any(r.finals for r in records)
    assert not any(r.int8_accuracy for r in records)
    trained = [replace(network(i, 0.8, 10**7 + i), evaluation=None) for i in range(40)]
    for seconds in (0.1, 2.0, 9.0):
        records = list(trained)
        for i, record in enumerate(trained):
            wanted = is_validated(None, records)
            records[i] = with_final(record, int8_seconds=seconds if wanted else None)
        spent = sum(r.finals[0].int8.seconds for r in records if r.finals[0].int8)
        assert 0 < spent <= SHARE * 10 * len(records)
    assert not is_validated(None, records, running=10**6)
    sentence = left_out(None, records)
    assert sentence is not None
    assert "of 40 finals have no int8 accuracy" in sentence
    assert left_out(False, records) is None
