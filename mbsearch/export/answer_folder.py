"""Write a study's answers as folders with trained weights, device files and a model card."""

from __future__ import annotations

import importlib.util
import logging
import shutil
from pathlib import Path

from mbsearch.analysis.answer import Answer
from mbsearch.analysis.answer_selection import answers
from mbsearch.analysis.findings import Findings
from mbsearch.config.boards import BOARDS
from mbsearch.cost import measure
from mbsearch.errors import StorageError
from mbsearch.export.study_export import export_record
from mbsearch.study.records import TrialRecord
from mbsearch.study.store import StudyStore
from mbsearch.study.trained_weights import trained_weights

FORMATS = ("yaml", "pytorch", "onnx")
"""Formats of every answer, beside int8."""
_LITERT = "litert-int8"
_C_ARRAY = "c-array"
_LARGEST_FLASH = max(board.flash for board in BOARDS.values())

_LOGGER = logging.getLogger(__name__)


def write_answers(
    store: StudyStore,
    home: Path,
    findings: Findings,
    *,
    command: str,
) -> list[Path]:
    """Write the answer for each budget into its own folder, and return the folders.

    A folder ``answer-20M`` in the study's `home` holds the network as YAML, PyTorch, ONNX and int8
    ONNX with their accuracies on test images, ``labels.txt`` and a model card. With LiteRT
    installed it also holds the int8 file of LiteRT, and the C array if the network fits a board.
    An existing folder is replaced. An answer whose network has no trained weights is left out.

    Args:
        store: the study.
        home: its folder.
        findings: what is known of it.
        command: that is named in the cards.

    Raises:
        DataError: the images cannot be read.
        StorageError: a folder cannot be written.
    """
    folders = []
    for budget, found in answers(findings, findings.default_budgets).items():
        if not isinstance(found, Answer):
            continue
        if trained_weights(home, found.record) is None:
            _LOGGER.warning(
                f"{budget.label}: {found.name} has no trained weights yet; "
                f"`mbsearch retrain {home}` trains it"
            )
            continue
        folder = home / f"answer-{budget.slug}"
        made = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(made, ignore_errors=True)
        exported = export_record(
            store, found.record, made, _formats(found.record), command=command, home=home, int8=True
        )
        _replace(folder, made)
        int8 = "" if exported.int8 is None else f"; {exported.int8.sentence()}"
        _LOGGER.info(f"{budget.label}: {found.name} written to {folder}{int8}")
        folders.append(folder)
    return folders


def _formats(record: TrialRecord) -> tuple[str, ...]:
    """Return the formats for a network."""
    if importlib.util.find_spec("ai_edge_litert") is None:
        _LOGGER.info("no int8 file of LiteRT: pip install 'mbsearch[litert-int8]' adds it")
        return FORMATS
    if measure(record.architecture)["flash_bytes"] > _LARGEST_FLASH:
        return (*FORMATS, _LITERT)
    return (*FORMATS, _LITERT, _C_ARRAY)


def _replace(folder: Path, made: Path) -> None:
    """Replace `folder` by the folder `made`."""
    old = folder.with_name(f".{folder.name}.old")
    try:
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        made.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror}") from None
