"""Export a network of a study with its weights, normalisation and model card."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mbsearch.analysis.answer import Answer
from mbsearch.analysis.answer_selection import answers
from mbsearch.analysis.findings import Findings, budget_of, findings_of
from mbsearch.cost import measure
from mbsearch.cost.units import millions
from mbsearch.data.batches import Split
from mbsearch.data.calibration import calibration_images
from mbsearch.data.sources import SplitName, study_source
from mbsearch.errors import DataError, ExportError
from mbsearch.export.exportable import LABELS, Exportable, Normalisation
from mbsearch.export.formats import FORMATS, WrittenFile, export, require
from mbsearch.export.graphs import INT8, ONNX
from mbsearch.export.int8_network import int8_network
from mbsearch.export.library_path import path_in_utf8
from mbsearch.export.litert_int8 import litert_accuracy
from mbsearch.export.model_card import CARD, EXPORTED_BY, Origin, model_card
from mbsearch.export.onnx_preprocessing import (
    PreprocessedFile,
    channels_last,
    put_preprocessing,
)
from mbsearch.export.preprocessing import PREPROCESSING_FILE, Preprocessing
from mbsearch.export.quantization import Quantised, quantise
from mbsearch.space.architecture import Architecture
from mbsearch.space.image_format import ImageFormat
from mbsearch.study.atomic_files import write_atomically
from mbsearch.study.identity import IDENTITY
from mbsearch.study.images_record import ImagesRecord
from mbsearch.study.records import TrialRecord
from mbsearch.study.retrained_file import read_retrained
from mbsearch.study.store import StudyStore
from mbsearch.study.trained_weights import TrainedWeights, trained_weights
from mbsearch.training.network import build
from mbsearch.training.weights import classes_of, content_of, load_weights

_COMPARED = 100  # images

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Exported:
    """The files of an export.

    `int8` is the accuracy of the int8 file if it was written. `preprocessed` are the ONNX files
    with the preprocessing inside.
    """

    files: tuple[WrittenFile, ...]
    int8: Quantised | None = None
    preprocessed: tuple[PreprocessedFile, ...] = ()


def export_record(
    store: StudyStore,
    record: TrialRecord,
    folder: Path,
    formats: Sequence[str],
    *,
    command: str,
    home: Path | None = None,
    int8: bool = False,
    preprocess: bool = False,
    data: str | None = None,
) -> Exported:
    """Write a record's network and model card into a folder.

    The weights are those of retraining in `home`, the study's folder, of the first seed; else
    those of the finals; else fresh ones. The input size is the one trained on. Files of an earlier
    export of another network or other weights are removed from the folder. With `int8` the ONNX
    file is quantised, too, and both are scored: on test images if the weights are trained, else on
    validation images. So are int8 formats of LiteRT. With `preprocess` the ONNX files take bytes.
    `data` is where the study's images are now; None for where the search found them.

    Raises:
        ExportError: as `export`, or `int8` or `preprocess` without ONNX.
        DataError: retrained weights, or for int8 files or `preprocess` the images, cannot be read;
            or the images are not the study's.
    """
    chosen = require(formats)  # fail before slow work
    if (int8 or preprocess) and "onnx" not in formats:
        option = "--int8" if int8 else "--preprocess"
        raise ExportError(f"{option}: expected onnx among the formats, got none")
    settings = store.settings()
    trained = None if home is None else trained_weights(home, record)
    if trained is None:
        _LOGGER.warning(
            f"{record.label} has fresh weights, which classify at random: a search keeps those of "
            "its finals only; `mbsearch retrain` trains them"
        )
    exportable = _exportable(store.name, settings, record, trained, data)
    # Fail before anything is written if there are no images.
    scored: SplitName = "validation" if trained is None else "test"
    quantises = any(each.int8 for each in chosen)
    wanted = int8 or quantises or preprocess
    splits = _splits(settings, data, scored, exportable.images) if wanted else None
    tuned = None if trained is None else _fine_tuned(exportable, trained)
    if quantises:
        exportable = _calibrated(exportable, tuned or exportable, splits)
    content = _content(exportable.architecture, trained)
    stale = _leftovers(folder, content, formats)
    written = export(exportable, folder, formats)
    fresh = {f for each in written if each.error is not None for f in FORMATS[each.format].files}
    fresh |= _write_data_files(exportable, folder)
    for file in stale - fresh:
        (folder / file).unlink(missing_ok=True)
    findings = findings_of(store.records(), settings, () if home is None else read_retrained(home))
    origin = Origin(record, _answer(findings, record), settings, trained, content, command)
    write_atomically(
        folder / CARD, model_card(exportable, origin, written)
    )  # the card identifies the files, even after a failure below
    if splits is None:
        return Exported(tuple(written))
    with path_in_utf8(folder) as readable:
        quantised = quantise(readable, *splits, tuned) if int8 else None
        preprocessed = _preprocessed(exportable, readable, splits[1]) if preprocess else ()
    origin = replace(
        origin,
        int8=None if quantised is None else quantised.sentence(),
        litert_int8=litert_accuracy(exportable, *splits[1:]).sentence() if quantises else None,
        preprocessed=preprocessed,
    )
    write_atomically(folder / CARD, model_card(exportable, origin, written))
    return Exported(tuple(written), quantised, preprocessed)


def _exportable(
    study: str,
    settings: Mapping[str, Any],
    record: TrialRecord,
    trained: TrainedWeights | None,
    data: str | None,
) -> Exportable:
    """Return a record's network, with fresh weights if there are no trained ones."""
    architecture, pixels = record.architecture, None
    images = _images_record(settings, data)
    if not record.is_baseline:  # searched networks have no name of their own
        architecture = architecture.replace(name=f"{study}-trial-{record.trial}")
    if trained is not None:  # the classes of the images override those of the space
        architecture = architecture.replace(num_classes=classes_of(trained.path))
        pixels = trained.pixels
    network = build(architecture, seed=settings[IDENTITY]["seed"])
    if trained is not None:
        load_weights(network, trained.path)
    return Exportable(
        architecture,
        network,
        _title(architecture.replace(resolution=pixels or architecture.resolution)),
        _normalisation(images, architecture),
        pixels,
        _class_names(images, architecture.num_classes),
    )


def _preprocessed(
    exportable: Exportable, folder: Path, scored: Split
) -> tuple[PreprocessedFile, ...]:
    """Put the preprocessing into the ONNX files of a folder, and compare them on images."""
    preprocessing = Preprocessing.of(exportable)
    assert preprocessing is not None, "the images were read"
    step = max(1, len(scored) // _COMPARED)  # images are sorted by class: take some of each
    images = channels_last(scored.images[::step][:_COMPARED], preprocessing.channels)
    files = (folder / name for name in (ONNX, INT8))
    return tuple(put_preprocessing(f, preprocessing, images) for f in files if f.exists())


def _write_data_files(exportable: Exportable, folder: Path) -> set[str]:
    """Write the class names and the preprocessing if they are known; return the files' names."""
    preprocessing, contents = Preprocessing.of(exportable), {}
    if exportable.class_names:
        contents[LABELS] = _one_a_line(exportable.class_names)
    if preprocessing is not None:
        contents[PREPROCESSING_FILE] = preprocessing.model_dump_json(indent=1).encode()
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return set(contents)


def _content(architecture: Architecture, trained: TrainedWeights | None) -> str:
    """Return the line of the card that identifies network and weights."""
    weights = "fresh" if trained is None else content_of(trained.path)[:16]
    return f"`{architecture.fingerprint}`, weights `{weights}`"


def _calibrated(
    exportable: Exportable,
    weights: Exportable,
    splits: tuple[Split, Split, SplitName] | None,
) -> Exportable:
    """Return a network with an int8 network of other weights, of the ranges of the first split."""
    assert splits is not None
    sized = exportable.architecture.replace(resolution=exportable.images.size)
    return replace(exportable, int8=int8_network(sized, weights.module, splits[0]))


def _fine_tuned(exportable: Exportable, trained: TrainedWeights) -> Exportable | None:
    """Return a network with the weights that were fine-tuned for int8; None without any."""
    if trained.int8 is None:
        return None
    network = build(exportable.architecture)
    load_weights(network, trained.int8)
    return replace(exportable, module=network.eval())


def _answer(findings: Findings, record: TrialRecord) -> Answer | str:
    """Return the answer that chose this network, or else the answer for the network's cost.

    If there is none, return the line that says why.
    """
    main = [] if findings.main_budget is None else [findings.main_budget]
    budgets = [*main, *findings.default_budgets, budget_of(record)]
    found = answers(findings, budgets)
    for each in found.values():
        if isinstance(each, Answer) and each.record.fingerprint == record.fingerprint:
            return each
    return found[budgets[-1]]


def _splits(
    settings: Mapping[str, Any], data: str | None, scored: SplitName, images: ImageFormat
) -> tuple[Split, Split, SplitName]:
    """Load the images that calibrate and score an int8 file.

    Raises:
        DataError: they cannot be read, or are not the study's.
    """
    source = study_source(settings, data)
    return calibration_images(source, images), source.split(scored, images), scored


def _leftovers(folder: Path, content: str, formats: Sequence[str]) -> set[str]:
    """Return the names of an earlier export's files that this export makes outdated."""
    try:
        card = (folder / CARD).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return set()
    if EXPORTED_BY not in card:
        return set()
    if content in card:  # the int8 file is made from the ONNX file
        return {INT8} if "onnx" in formats else set()
    return {
        LABELS,
        PREPROCESSING_FILE,
        INT8,
        *(file for each in FORMATS.values() for file in each.files),
    }


def _title(network: Architecture) -> str:
    costs = measure(network)
    return (
        f"{network.name}: {millions(costs['mult_adds'])} Mult-Adds and "
        f"{millions(costs['params'])} parameters at {network.resolution} pixels."
    )


def _images_record(settings: Mapping[str, Any], data: str | None) -> ImagesRecord | None:
    """Return the study's record of its images; if it has none, read the images to make one.

    None, with a warning, if they cannot be read or are others.
    """
    record = ImagesRecord.of(settings)
    if record is not None:
        return record
    try:
        return study_source(settings, data).record()
    except DataError as error:
        _LOGGER.warning(f"normalisation and class names are unknown: {error}")
        return None


def _class_names(images: ImagesRecord | None, count: int) -> tuple[str, ...]:
    """Return the names of a network's classes; empty if they are unknown."""
    return images.class_names if images is not None and len(images.class_names) == count else ()


def _one_a_line(names: Sequence[str]) -> bytes:
    """Encode class names with one name per line; replace line breaks in a name by spaces."""
    lines = [name.replace("\n", " ").replace("\r", " ") for name in names]
    return "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")


def _normalisation(images: ImagesRecord | None, network: Architecture) -> Normalisation | None:
    """Normalisation of the training images; None if they are unknown."""
    if images is None:
        return None
    grey = len(images.mean) == 1
    repeated = network.input.channels if grey else 1
    return Normalisation(images.mean * repeated, images.std * repeated, grey, images.deep)
