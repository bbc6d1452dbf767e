"""What was measured of a study beside its trials: its proxy's ranking, latencies, long trainings.

Each stands in a file of its own in the study's folder, written by `mbsearch audit`, `mbsearch
latency` and `mbsearch retrain`. None needs torch to be read.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import stdev
from typing import Any, TypeVar

from mbsearch.cost.metrics import MEASURED_US, METRICS
from mbsearch.errors import StorageError
from mbsearch.space.architecture import Architecture
from mbsearch.study.identity import Stamp, difference, filled
from mbsearch.study.records import Predictions

T = TypeVar("T")

AUDIT, LATENCY, RETRAINED = "audit.json", "latency.json", "retrain.json"
_DAMAGED = (ValueError, TypeError, KeyError, AttributeError)  # no JSON, or another shape
_QUARTILES = ("lower_quartile", "median", "upper_quartile")


MULT_ADDS, PARAMS, PROXY = "mult_adds", "params", "proxy"
WITH_COST, WITH_GROWTH = "proxy and cost", "proxy and growth"


@dataclass(frozen=True, slots=True)
class Ranking:
    """How one score ranks: Kendall's tau-b with the truth, its interval, and inside cost thirds.

    `low` and `high` bound 90 % of the taus of bootstrapped networks. `regret` is the true accuracy
    lost by taking the network that the score likes best, the mean over four budgets.
    """

    score: str
    tau: float
    low: float
    high: float
    thirds: tuple[float, float, float]
    regret: float


@dataclass(frozen=True, slots=True)
class Lean:
    """How much higher a family truly ends than candidates that the proxy finds as accurate.

    `gain` is the mean over its `networks`, a difference of accuracies: above 0 the proxy finds the
    family worse than it is, below 0 better. `error` is the 95 % bound of what chance makes of a
    family that is like the candidates.
    """

    family: str
    networks: int
    gain: float
    error: float

    def clause(self) -> str:
        """``mobilenet_v2 ends 0.030 above (more than chance, 0.012: ...)``."""
        way = "above" if self.gain > 0 else "below"
        verdict = f"within chance, {self.error:.3f}"
        if abs(self.gain) > self.error:
            says = "is unfair to it" if self.gain > 0 else "favours it"
            verdict = f"more than chance, {self.error:.3f}: the proxy {says}"
        return f"{self.family} ends {abs(self.gain):.3f} {way} ({verdict})"


@dataclass(frozen=True, slots=True)
class Audit:
    """How well a proxy ranks: every score's ranking, the noise of one run, the time of one run.

    `truth` says what the proxy was held against, `networks` how many there were. `leans` says of
    each MobileNet family whether the proxy is fair to it; empty where none was trained. `stamp` is
    what was audited, None in an older audit; `caveat` says how that differs from the study beside.
    """

    space: str
    data: str
    truth: str
    networks: int
    seconds: float
    noise: float | None
    rankings: list[Ranking]
    leans: list[Lean] = field(default_factory=list)
    stamp: Stamp | None = None
    caveat: str = ""

    def sentence(self) -> str:
        """Whether the proxy ranks better than counting Mult-Adds, and is fair, in words."""
        taus = {ranking.score: ranking for ranking in self.rankings}
        proxy, counting = taus[PROXY], taus[MULT_ADDS]
        verdict = (
            "ranks better than" if proxy.tau > counting.tau else "ranks NO better than"
        ) + " counting Mult-Adds"
        ahead = sum(a > b for a, b in zip(proxy.thirds, counting.thirds, strict=True))
        fair = ""
        if self.leans:
            clauses = ", ".join(each.clause() for each in self.leans)
            fair = f"; beside candidates of the same proxy accuracy {clauses}"
        return (
            f"the proxy {verdict} on {self.networks} networks and {self.data}: tau {proxy.tau:.2f} "
            f"({proxy.low:.2f} to {proxy.high:.2f}) against {counting.tau:.2f}; it is ahead in "
            f"{ahead} of 3 cost thirds{fair}{self.caveat}"
        )


@dataclass(frozen=True, slots=True)
class Quartiles:
    """Time of one image in microseconds: the median, and the quartiles around it."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class Retrained:
    """A network after retraining: its accuracies on the test images, one a seed.

    `family` is ``search``, ``given``, or a reference's name; `rival_of` is the candidate that a
    reference stands beside. `proxy_accuracy` is None for what the search has not trained. `images`
    is the number of test images and `predictions` those of each seed, where they were kept.
    `leads` compares a candidate with each reference beside it, in words.
    """

    name: str
    family: str
    fingerprint: str
    alpha: float
    resolution: int
    costs: Mapping[str, int]
    proxy_accuracy: float | None
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    pixels: int
    seconds: float
    rival_of: str | None = None
    architecture: Architecture | None = None
    images: int | None = None
    predictions: tuple[Predictions, ...] = field(default=(), compare=False)
    leads: tuple[str, ...] = ()

    @property
    def beside(self) -> str:
        """The candidate whose cost it has, itself for a candidate."""
        return self.rival_of or self.name

    @property
    def accuracy(self) -> float:
        """Mean test accuracy over the seeds."""
        return sum(self.accuracies) / len(self.accuracies)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None of a single one."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else None

    def joined(self, earlier: Retrained) -> Retrained:
        """With the seeds of an earlier retraining of the same network that are not among these."""
        trainings = earlier._by_seed() | self._by_seed()
        seeds = sorted(trainings)
        kept = [predictions for _, predictions in (trainings[seed] for seed in seeds)]
        added = (len(seeds) - len(self.seeds)) / len(earlier.seeds)
        return replace(
            self,
            seeds=tuple(seeds),
            accuracies=tuple(trainings[seed][0] for seed in seeds),
            seconds=self.seconds + added * earlier.seconds,
            predictions=() if None in kept else tuple(p for p in kept if p is not None),
        )

    def _by_seed(self) -> dict[int, tuple[float, Predictions | None]]:
        kept = self.predictions or (None,) * len(self.seeds)
        return dict(zip(self.seeds, zip(self.accuracies, kept, strict=True), strict=True))

    def to_row(self) -> dict[str, Any]:
        """Plain data, without predictions."""
        return {
            "name": self.name,
            "family": self.family,
            "rival_of": self.rival_of,
            "fingerprint": self.fingerprint,
            "alpha": self.alpha,
            "resolution": self.resolution,
            **self.costs,
            "proxy_accuracy": self.proxy_accuracy,
            "test_accuracy": self.accuracy,
            "spread": self.spread,
            "accuracies": list(self.accuracies),
            "seeds": list(self.seeds),
            "pixels": self.pixels,
            "seconds": self.seconds,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data, whole."""
        network = None if self.architecture is None else self.architecture.to_dict()
        kept = [predictions.to_dict() for predictions in self.predictions]
        return self.to_row() | {"architecture": network, "predictions": kept}

    @staticmethod
    def from_dict(
        row: Mapping[str, Any], images: int | None = None, leads: Sequence[str] = ()
    ) -> Retrained:
        """Inverse of `to_dict`; older rows have neither an architecture nor predictions."""
        proxy, network = row["proxy_accuracy"], row.get("architecture")
        kept = row.get("predictions", ())
        if not len(row["seeds"]) == len(row["accuracies"]) >= 1 or len(kept) not in (
            0,
            len(row["seeds"]),
        ):
            raise ValueError("seeds")
        return Retrained(
            name=str(row["name"]),
            family=str(row["family"]),
            fingerprint=str(row["fingerprint"]),
            alpha=float(row["alpha"]),
            resolution=int(row["resolution"]),
            costs={metric: int(row[metric]) for metric in METRICS if metric in row},
            proxy_accuracy=None if proxy is None else float(proxy),
            seeds=tuple(map(int, row["seeds"])),
            accuracies=tuple(map(float, row["accuracies"])),
            pixels=int(row["pixels"]),
            seconds=float(row["seconds"]),
            rival_of=row["rival_of"],
            architecture=None if network is None else Architecture.model_validate(network),
            images=images,
            predictions=tuple(map(Predictions.from_dict, kept)),
            leads=tuple(leads),
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """All that stands beside a study; `problems` says which file is damaged.

    `latencies` is by metric (``onnxruntime_us``), then by a network's fingerprint.
    """

    audit: Audit | None = None
    latencies: Mapping[str, Mapping[str, Quartiles]] = field(default_factory=dict)
    retrained: tuple[Retrained, ...] = ()
    problems: tuple[str, ...] = ()

    def retrained_beside(self, fingerprint: str) -> list[Retrained]:
        """A network that was retrained, and the references of equal cost."""
        names = [each.name for each in self.retrained if each.fingerprint == fingerprint]
        return [each for each in self.retrained if each.name in names or each.beside in names]


def read_measured(folder: Path, stamp: Stamp | None = None) -> Measured:
    """What stands in the folder of a study, which bears the `stamp`.

    A damaged file is a problem, and hides nothing else.
    """
    problems: list[str] = []

    def known(read: Callable[[Path], T], otherwise: T) -> T:
        try:
            return read(folder)
        except StorageError as error:
            problems.append(str(error))
            return otherwise

    return Measured(
        audit=known(lambda folder: read_audit(folder, stamp), None),
        latencies=known(read_latencies, {}),
        retrained=known(read_retrained, ()),
        problems=tuple(problems),  # after all are read
    )


def read_audit(folder: Path, stamp: Stamp | None = None) -> Audit | None:
    """The audit beside a study, which bears the `stamp`; None where none was made.

    Raises:
        StorageError: its file is damaged.
    """
    path = folder / AUDIT
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        audit = Audit(
            **{
                **data,
                "seconds": float(data["seconds"]),
                "noise": None if data["noise"] is None else float(data["noise"]),
                "rankings": [_ranking(**row) for row in data["rankings"]],
                "leans": [Lean(**row) for row in data.get("leans", [])],  # older audits had none
            }
        )
        audit.sentence()  # fails without its two scores
    except FileNotFoundError:
        return None
    except (OSError, *_DAMAGED):
        raise damaged(path, "audit") from None
    if audit.stamp is None or stamp is None:
        return audit
    study = filled(stamp)
    other = difference(audit.stamp, {key: study.get(key) for key in audit.stamp})
    if other is None:
        return audit
    return replace(audit, caveat=f"; NOT what this study searches by ({other})")


def read_latencies(folder: Path) -> dict[str, dict[str, Quartiles]]:
    """Latencies of a study's networks, by metric and fingerprint; none where none were measured.

    Raises:
        StorageError: their file is damaged.
    """
    found: dict[str, dict[str, Quartiles]] = {}
    try:
        for row in latency_rows(folder):
            times = Quartiles(*(1e6 * float(row[f"{q}_seconds"]) for q in _QUARTILES))
            if not 0 < times.low <= times.median <= times.high < math.inf:
                raise ValueError("times")
            found.setdefault(row["engine"] + MEASURED_US, {})[row["fingerprint"]] = times
    except _DAMAGED:
        raise damaged(folder / LATENCY, "latency") from None
    return found


def latency_rows(folder: Path) -> list[dict[str, Any]]:
    """What `mbsearch latency` wrote of a study's networks, row by row; empty where it did not.

    Raises:
        StorageError: the file is no JSON of rows.
    """
    path = folder / LATENCY
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["networks"])
    except FileNotFoundError:
        return []
    except (OSError, *_DAMAGED):
        raise damaged(path, "latency") from None


def read_retrained(folder: Path) -> tuple[Retrained, ...]:
    """Networks of a study that were retrained; none where none were.

    Raises:
        StorageError: their file is damaged.
    """
    path = folder / RETRAINED
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        images = found["settings"].get("test_images")
        said = [(lead["candidate"], str(lead["sentence"])) for lead in found["leads"]]
        return tuple(
            Retrained.from_dict(row, images, [text for name, text in said if name == row["name"]])
            for row in found["networks"]
        )
    except FileNotFoundError:
        return ()
    except (OSError, *_DAMAGED, zlib.error):
        raise damaged(path, "retrain") from None


def _ranking(score: str, thirds: Sequence[float], **numbers: float) -> Ranking:
    first, second, third = map(float, thirds)
    return Ranking(
        score,
        thirds=(first, second, third),
        **{name: float(number) for name, number in numbers.items()},
    )


def damaged(path: Path, command: str) -> StorageError:
    """The error of a file that cannot be what a command wrote."""
    return StorageError(
        f"{path}: expected what `mbsearch {command}` writes, got a damaged file; delete it, and "
        f"the same {command} makes it again"
    )
