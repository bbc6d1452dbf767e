"""Fit a latency model to the times that a user measured with a probe kit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbsearch.errors import DataError, did_you_mean
from mbsearch.execution.table_rows import number_in, table_rows
from mbsearch.latency.model import LatencyModel
from mbsearch.space.architecture import Architecture
from mbsearch.space.space import read_architecture
from mbsearch.space.yaml_source import read_document
from mbsearch.study.json_files import read_json
from mbsearch.study.latency_setting import PROBE_KIT, LatencySetting

ARCHITECTURES = "architectures"
"""Folder of the kit's networks as YAML, beside the tables of times."""
FILE, MILLISECONDS = "file", "milliseconds"
"""Columns of a table of times."""
NO_TIME = "-"
"""Cell of a network that does not run on the device."""

_LISTED = 5  # networks in a message


def read_device_model(path: Path) -> LatencyModel:
    """Return the latency model of a device from a table of times, or from a model's JSON file.

    The device is named after the table: ``pi5.csv`` has the times of ``pi5``.

    Raises:
        DataError: the table is invalid; the message names the row.
        SpecError: it has too few times.
        StorageError: the JSON file is damaged.
    """
    if path.suffix.lower() == ".json":
        model = read_json(path, "latency --from", LatencyModel.from_dict)
        if model is None:
            raise DataError(f"{path}: expected a latency model, got no such file")
        return model
    networks = _networks(path)
    times = _times(path, networks)
    setting = LatencySetting(PROBE_KIT, 1, path.stem, {})
    return LatencyModel.fit(
        [networks[name] for name in times], [1e3 * each for each in times.values()], setting
    )


def _networks(path: Path) -> dict[str, Architecture]:
    """Return the networks of the kit that a table belongs to, by the names of their files."""
    folder = path.parent / ARCHITECTURES
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise DataError(
            f"{path}: expected the folder {ARCHITECTURES} of the probe kit beside it, got none"
        )
    return {file.stem: read_architecture(read_document(file)) for file in files}


def _times(path: Path, networks: Mapping[str, Architecture]) -> dict[str, float]:
    """Return the milliseconds of each network that runs on the device."""
    cells: dict[str, float | None] = {}
    empty = []
    for place, row in table_rows(path, (FILE,), MILLISECONDS):
        name = _name(place, row, networks)
        if name in cells or name in empty:
            raise DataError(f"{place}: {FILE}: expected each network once, got {name} twice")
        if row[MILLISECONDS] in ("", None):
            empty.append(name)
        else:
            cells[name] = _milliseconds(place, row[MILLISECONDS])
    missing = [name for name in networks if name not in cells]
    if missing:
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        raise DataError(
            f"{path}: expected {MILLISECONDS} for each of the {len(networks)} networks "
            f"({NO_TIME} for one that does not run), got none for "
            f"{', '.join(missing[:_LISTED])}{more}"
        )
    return {name: cell for name in networks if (cell := cells[name]) is not None}


def _name(place: str, row: Mapping[str, Any], networks: Mapping[str, Architecture]) -> str:
    """Return the name of a row's network; an extension is ignored."""
    written = str(row.get(FILE) or "").strip()
    name = written if written in networks else Path(written).stem
    if name not in networks:
        raise DataError(
            f"{place}: {FILE}: expected a network of the kit, got {written!r}"
            + did_you_mean(name, networks)
        )
    return name


def _milliseconds(place: str, cell: object) -> float | None:
    """Return a time, or None for a network that does not run."""
    if isinstance(cell, str) and cell.strip() == NO_TIME:
        return None
    number = number_in(cell)
    if number is None or not 0 < number < float("inf"):
        raise DataError(
            f"{place}: {MILLISECONDS}: expected a number > 0 without a unit, got {cell!r}"
        )
    return number
