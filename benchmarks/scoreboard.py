"""The scoreboard of `wins.py`: rows on disk, margins, and the page."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from mbsearch.analysis.intervals import Interval
from mbsearch.analysis.paired_comparison import (
    Cell,
    Correct,
    compare,
    pooled_margin,
    seed_deviation_of,
)
from mbsearch.cost.metrics import quantity
from mbsearch.cost.units import millions

FREE, PUBLISHED = "scaled freely", "published"
SENSES = (FREE, PUBLISHED)
"""Groups of references."""
_NEEDED = {FREE: 0.007, PUBLISHED: 0.02, "random search": 0.007, "the plain script": 0.007}
"""Required mean margins."""
_BEHIND = -0.01
_NOT_RUN = "not run"


@dataclass(frozen=True)
class Search:
    """One run of `mbsearch run` with its time and memory."""

    name: str
    sampler: str
    seed: int
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Trained:
    """Retrainings of one network, one per seed; `correct` holds packed bits per test image."""

    key: str
    data: str
    name: str
    architecture: Mapping[str, Any]
    costs: Mapping[str, int]
    pixels: int
    seconds: Sequence[float]
    accuracies: Sequence[float]
    images: int
    correct: Sequence[str]

    @cached_property
    def arrays(self) -> Correct:
        """Whether each test image is classified correctly, one array per seed."""
        return [unpacked(text, self.images) for text in self.correct]

    @property
    def size(self) -> str:
        """Width multiplier and resolution."""
        return f"{self.architecture['alpha']:g}/{self.architecture['resolution']}"


@dataclass(frozen=True)
class Row:
    """One cell: keys of the retrainings of the answer and of its competitors.

    `random_search`, `random` and `plain` are None if they were not run.
    """

    data: str
    budget: str
    search: Search
    answer: str
    references: Mapping[str, Sequence[str]]
    latency_ms: Mapping[str, float]
    wall_seconds: float
    random_search: Search | None = None
    random: str | None = None
    plain: str | None = None

    @staticmethod
    def read(path: Path) -> Row:
        """Read a row from a file."""
        cell = json.loads(path.read_text())
        searches = {
            name: Search(**cell[name])
            for name in ("search", "random_search")
            if cell[name] is not None
        }
        return Row(**cell | searches)

    @property
    def is_complete(self) -> bool:
        """Whether the cell has the random search and the plain script."""
        return self.random is not None and self.plain is not None

    @property
    def title(self) -> str:
        """Data set, budget and search."""
        return f"{self.data}, {self.budget}, search {self.search.seed}"

    def strongest(self, sense: str) -> str | None:
        """Return the key of the strongest reference, or None if none is within the budget."""
        return next(iter(self.references[sense]), None)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    temporary.replace(path)


def packed(correct: np.ndarray) -> str:
    """Encode booleans as text, eight per byte."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode()


def unpacked(text: str, count: int) -> np.ndarray:
    """Decode the text of `packed`."""
    bits = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.unpackbits(bits, count=count).astype(bool)


def is_kept(rows: Path, key: str, seeds: int) -> bool:
    """Return whether this key has retrainings of at least this many seeds."""
    path = rows / "trainings" / f"{key}.json"
    return path.exists() and len(json.loads(path.read_text())["correct"]) >= seeds


@dataclass(frozen=True)
class Scoreboard:
    """All completed cells."""

    rows: Sequence[Row]
    trainings: Mapping[str, Trained]

    @staticmethod
    def read(folder: Path) -> Scoreboard:
        """Read the scoreboard of a folder."""
        rows = [Row.read(path) for path in (folder / "cells").glob("*.json")]
        rows.sort(key=lambda row: (row.data, int(row.budget.rstrip("M")), row.search.seed))
        found = [json.loads(p.read_text()) for p in (folder / "trainings").glob("*.json")]
        return Scoreboard(rows, {each["key"]: Trained(**each) for each in found})

    @cached_property
    def seed_deviation(self) -> float:
        """Standard deviation over seeds on the logit scale, pooled over all retrainings."""
        return seed_deviation_of([each.arrays for each in self.trainings.values()])

    def margin(self, row: Row, other: str) -> Interval:
        """Return the margin of a cell's answer over another network."""
        a, b = self.trainings[row.answer].arrays, self.trainings[other].arrays
        if row.answer == other:
            return Interval(0.0, 0.0, 0.0, len(a[0]))
        return compare(a, b, self.seed_deviation)

    def pooled(self, other: Callable[[Row], str | None]) -> tuple[Interval, int] | None:
        """Return the mean margin over one competitor per cell, and the number of cells with one."""
        cells = [Cell(r.data, r.answer, name) for r in self.rows if (name := other(r)) is not None]
        if not cells:
            return None
        networks = {(each.data, key): each.arrays for key, each in self.trainings.items()}
        return pooled_margin(cells, networks, self.seed_deviation), len(cells)

    def failures(self) -> list[str]:
        """Return the cells behind a reference, significantly or by more than a point."""
        found = []
        for row in self.rows:
            for key in dict.fromkeys(key for keys in row.references.values() for key in keys):
                margin = self.margin(row, key)
                if margin.high < 0 or margin.mean < _BEHIND:
                    word = "significantly behind" if margin.high < 0 else "behind"
                    name = self.trainings[key].name
                    found.append(f"{row.title}: {word} {name}: {points(margin)} points")
        return found

    def line(self, row: Row) -> str:
        """Format a cell as one line."""
        answer = self.trainings[row.answer]
        texts = [f"{row.title}: {answer.name} ({millions(answer.costs['mult_adds'])})"]
        texts.append(f"test {fmean(answer.accuracies):.4f}")
        for name, key in self._others(row).items():
            if key is not None:
                texts.append(f"{points(self.margin(row, key))} over {name}")
        return "; ".join([*texts, f"{row.wall_seconds / 60:.0f} min"])

    def markdown(self) -> str:
        """Return the page: pooled margins, failures, and a row per cell."""
        lines = [
            "# Scoreboard",
            "",
            "Answers of searches against references, a random search and a plain script: accuracy",
            "on test images after retraining, `python benchmarks/wins.py`. Margins are in points",
            "with a 95 % interval over the same images and over seeds. `scaled freely` and",
            "`published` are the strongest of MobileNet V1, V2 and V3-small in that sense, by the",
            "validation accuracy of the trainings in the first search.",
            "",
            "## Pooled margins",
            "",
            "| over | cells | mean margin (95 % interval) | asked for | met |",
            "|---|---|---|---|---|",
            *self._pooled_lines(),
            "",
            "## Cells behind a reference",
            "",
            *([f"- {each}" for each in self.failures()] or ["None."]),
            "",
            "## Cells",
            "",
            "| cell | answer | Mult-Adds | memory | latency, its reference's | test accuracy | "
            + " | ".join(f"over {name}" for name in _NEEDED)
            + " | search, random search (CPU min) |",
            "|---" * (7 + len(_NEEDED)) + "|",
            *(self._cell_line(row) for row in self.rows),
            "",
            "## Networks",
            "",
            "| data | network | alpha/resolution | Mult-Adds | parameters | pixels | accuracies |",
            "|---|---|---|---|---|---|---|",
            *(_network_line(each) for each in sorted(self.trainings.values(), key=_order)),
        ]
        return "\n".join(lines) + "\n"

    def _others(self, row: Row) -> dict[str, str | None]:
        """Return the keys of a row's competitors by the names of `_NEEDED`."""
        found = {sense: row.strongest(sense) for sense in SENSES}
        return found | {"random search": row.random, "the plain script": row.plain}

    def _pooled_lines(self) -> list[str]:
        lines = []
        for name, needed in _NEEDED.items():
            found = self.pooled(lambda row: self._others(row)[name])  # noqa: B023 - called here
            if found is None:
                continue
            margin, cells = found
            met = "yes" if margin.low > 0 and margin.mean >= needed else "no"
            asked = f"{100 * needed:+.1f}, interval above 0"
            lines.append(f"| {name} | {cells} | {points(margin)} | {asked} | {met} |")
        return lines

    def _cell_line(self, row: Row) -> str:
        answer, reference = self.trainings[row.answer], row.strongest(FREE)
        margins = [
            _missing(name) if key is None else self._named_margin(row, key)
            for name, key in self._others(row).items()
        ]
        latency = [f"{row.latency_ms[key]:.2f}" for key in (row.answer, reference) if key]
        searches = [row.search, row.random_search]
        texts = [
            row.title,
            f"{answer.name}, {answer.size}",
            millions(answer.costs["mult_adds"]),
            quantity("peak_activation_bytes", answer.costs["peak_activation_bytes"]),
            f"{', '.join(latency)} ms",
            f"{fmean(answer.accuracies):.4f}",
            *margins,
            ", ".join(_NOT_RUN if s is None else f"{s.cpu_seconds / 60:.0f}" for s in searches),
        ]
        return f"| {' | '.join(texts)} |"

    def _named_margin(self, row: Row, key: str) -> str:
        return f"{self.trainings[key].name}: {points(self.margin(row, key))}"


def _missing(name: str) -> str:
    """Return the text of a missing margin: empty if no reference is within the budget."""
    return "" if name in SENSES else _NOT_RUN


def points(margin: Interval) -> str:
    """Format a margin in percentage points: ``+1.2 (0.3 to 2.1)``."""
    low, high = 100 * margin.low, 100 * margin.high
    return f"{100 * margin.mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _order(each: Trained) -> tuple[str, int]:
    return each.data, each.costs["mult_adds"]


def _network_line(each: Trained) -> str:
    texts = [
        each.data,
        each.name,
        each.size,
        millions(each.costs["mult_adds"]),
        quantity("params", each.costs["params"]),
        str(each.pixels),
        ", ".join(f"{accuracy:.4f}" for accuracy in each.accuracies),
    ]
    return f"| {' | '.join(texts)} |"
