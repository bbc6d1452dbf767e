"""Export a network of a study with its weights, normalisation and model card."""

from __future__ import annotations

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
from mbsearch.data.sources import ImageSource, SplitName, load_source
from mbsearch.errors import DataError, ExportError
from mbsearch.export.exportable import Exportable, Normalisation
from mbsearch.export.formats import FORMATS, WrittenFile, export, require
from mbsearch.export.graphs import INT8
from mbsearch.export.model_card import CARD, EXPORTED_BY, Origin, model_card
from mbsearch.export.python_files import WEIGHTS
from mbsearch.export.quantization import Quantised, quantise
from mbsearch.space.architecture import Architecture
from mbsearch.study.atomic_files import write_atomically
from mbsearch.study.records import TrialRecord
from mbsearch.study.retrained_file import read_retrained
from mbsearch.study.store import StudyStore
from mbsearch.study.trained_weights import trained_weights
from mbsearch.training.network import build
from mbsearch.training.weights import classes_of, content_of, load_weights

LABELS = "labels.txt"
"""File of class names in the order of the outputs, one per line."""
_CALIBRATION = 256  # images


@dataclass(frozen=True, slots=True)
class Exported:
    """The files of an export, and the accuracy of the int8 file if it was written."""

    files: tuple[WrittenFile, ...]
    int8: Quantised | None = None


def export_record(
    store: StudyStore,
    record: TrialRecord,
    folder: Path,
    formats: Sequence[str],
    *,
    command: str,
    home: Path | None = None,
    int8: bool = False,
) -> Exported:
    """Write a record's network and model card into a folder.

    The weights are those of retraining in `home`, the study's folder, of the first seed; else
    those of the finals; else fresh ones. The input size is the one trained on. Files of an earlier
    export of another network or other weights are removed from the folder. With `int8` the ONNX
    file is quantised, too, and both are scored: on test images if the weights are trained, else on
    validation images.

    Raises:
        ExportError: as `export`, or `int8` without ONNX.
        DataError: retrained weights, or with `int8` the images, cannot be read.
    """
    require(formats)  # fail before slow work
    if int8 and "onnx" not in formats:
        raise ExportError("--int8: expected onnx among the formats, got none")
    settings, architecture = store.settings(), record.architecture
    if not record.is_baseline:  # searched networks have no name of their own
        architecture = architecture.replace(name=f"{store.name}-trial-{record.trial}")
    trained = None if home is None else trained_weights(home, record)
    pixels = None
    if trained is not None:  # the classes of the images override those of the space
        architecture = architecture.replace(num_classes=classes_of(trained.path))
        pixels = trained.pixels
    network = build(architecture, seed=settings["stamp"]["seed"])
    if trained is not None:
        load_weights(network, trained.path)
    title = _title(architecture.replace(resolution=pixels or architecture.resolution))
    source = _source(settings)
    exportable = Exportable(architecture, network, title, _normalisation(source), pixels)
    # Fail before anything is written if there are no images.
    splits = _splits(
        settings, "validation" if trained is None else "test", exportable.side, int8=int8
    )
    weights = "fresh" if trained is None else content_of(trained.path)[:16]
    content = f"`{architecture.fingerprint}`, weights `{weights}`"
    stale = _leftovers(folder, content, formats)
    written = export(exportable, folder, formats)
    if source is not None:
        write_atomically(folder / LABELS, "".join(f"{name}\n" for name in source.class_names))
    fresh = {each.file for each in written if each.error is not None}
    if "pytorch" in formats:
        fresh.add(WEIGHTS)
    for file in stale - fresh:
        (folder / file).unlink(missing_ok=True)
    findings = findings_of(store.records(), settings, () if home is None else read_retrained(home))
    origin = Origin(record, _answer(findings, record), settings, trained, content, command)
    write_atomically(
        folder / CARD, model_card(exportable, origin, written)
    )  # the card identifies the files, even after a failure below
    if splits is None:
        return Exported(tuple(written))
    quantised = quantise(folder, *splits)
    origin = replace(origin, int8=quantised.sentence())
    write_atomically(folder / CARD, model_card(exportable, origin, written))
    return Exported(tuple(written), quantised)


def _answer(findings: Findings, record: TrialRecord) -> Answer | str:
    """Return the default answer that chose this network, or else the answer for its cost.

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
    settings: Mapping[str, Any], scored: SplitName, side: int, *, int8: bool
) -> tuple[Split, Split, SplitName] | None:
    """Return images to calibrate and evaluate an int8 file; None without `int8`."""
    if not int8:
        return None
    source = load_source(settings["stamp"]["data"], seed=settings["stamp"]["seed"])
    calibration = source.split("train", side, max(_CALIBRATION, source.num_classes))
    return calibration, source.split(scored, side), scored


def _leftovers(folder: Path, content: str, formats: Sequence[str]) -> set[str]:
    """Return the files of an earlier export in the folder that this export makes outdated."""
    try:
        card = (folder / CARD).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return set()
    if EXPORTED_BY not in card:
        return set()
    if content in card:  # the int8 file is made from the ONNX file
        return {INT8} if "onnx" in formats else set()
    return {WEIGHTS, INT8, *(each.file for each in FORMATS.values())}


def _title(network: Architecture) -> str:
    costs = measure(network)
    return (
        f"{network.name}: {millions(costs['mult_adds'])} Mult-Adds and "
        f"{millions(costs['params'])} parameters at {network.resolution} pixels."
    )


def _source(settings: Mapping[str, Any]) -> ImageSource | None:
    """Return the study's images; None if they no longer exist."""
    try:
        return load_source(settings["stamp"]["data"], seed=settings["stamp"]["seed"])
    except DataError:
        return None


def _normalisation(source: ImageSource | None) -> Normalisation | None:
    """Return the training images' normalisation; None if they cannot be read."""
    if source is None:
        return None
    try:
        mean, std = source.statistics().tolist()
    except DataError:
        return None
    grey = len(mean) == 1
    return Normalisation(tuple(mean * 3 if grey else mean), tuple(std * 3 if grey else std))
