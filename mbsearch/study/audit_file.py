"""``audit.json``: rank agreement of a study's proxy, measured by `mbsearch audit`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mbsearch.config.proxy_settings import data_title
from mbsearch.config.scores import Score
from mbsearch.study.atomic_files import write_atomically
from mbsearch.study.identity import Identity, difference, with_defaults
from mbsearch.study.json_files import read_json

AUDIT = "audit.json"
MULT_ADDS, PARAMS, PROXY = "mult_adds", "params", "proxy"
WITH_COST, WITH_GROWTH = "proxy and cost", "proxy and growth"


@dataclass(frozen=True, slots=True)
class RankAgreement:
    """Kendall's tau-b between one score and the networks' true accuracy.

    `low` and `high` bound 90 % of the taus of bootstrapped networks. `thirds` are the taus inside
    the thirds of smallest, middle and largest cost. `regret` is the true accuracy lost by taking
    the network of the highest score, averaged over four budgets.
    """

    score: str
    tau: float
    low: float
    high: float
    thirds: tuple[float, float, float]
    regret: float

    @staticmethod
    def from_dict(row: Mapping[str, Any]) -> RankAgreement:
        """Return the rank agreement from plain data."""
        first, second, third = map(float, row["thirds"])
        return RankAgreement(
            str(row["score"]),
            float(row["tau"]),
            float(row["low"]),
            float(row["high"]),
            (first, second, third),
            float(row["regret"]),
        )


@dataclass(frozen=True, slots=True)
class FamilyBias:
    """True accuracy of a family minus that of candidates with equal proxy accuracy.

    `gain` is the mean over its `networks`. Above 0 the proxy underestimates the family, below 0 it
    overestimates it. `error` is the half width of the 95 % interval.
    """

    family: str
    networks: int
    gain: float
    error: float

    @property
    def significant(self) -> bool:
        """Whether the 95 % interval excludes 0."""
        return abs(self.gain) > self.error

    def clause(self) -> str:
        """Return, for example, ``underestimates mobilenet_v2 by 0.030 ± 0.012 (significant)``."""
        verb = "underestimates" if self.gain > 0 else "overestimates"
        significance = "significant" if self.significant else "not significant"
        return f"{verb} {self.family} by {abs(self.gain):.3f} ± {self.error:.3f} ({significance})"


@dataclass(frozen=True, slots=True)
class Audit:
    """Rank agreement of the proxy and other scores with the networks' true accuracy.

    `truth` names the source of the true accuracies, `networks` is their number. `seconds` is the
    mean time of one proxy training, `noise` the standard deviation of its accuracy over seeds.
    `family_biases` has one row for each MobileNet family that was trained. `identity` is what was
    audited, None in an audit of an older version. `caveat` says how it differs from the study.
    """

    space: str
    data: str
    truth: str
    networks: int
    seconds: float
    noise: float | None
    rankings: list[RankAgreement]
    family_biases: list[FamilyBias] = field(default_factory=list)
    identity: Identity | None = None
    caveat: str = ""

    def sentence(self) -> str:
        """Return a sentence that compares the proxy with Mult-Adds, and names its biases."""
        taus = {ranking.score: ranking for ranking in self.rankings}
        proxy, counting = taus[PROXY], taus[MULT_ADDS]
        comparison = (
            "ranks better than" if proxy.tau > counting.tau else "ranks NO better than"
        ) + " counting Mult-Adds"
        ahead = sum(a > b for a, b in zip(proxy.thirds, counting.thirds, strict=True))
        biases = ""
        if self.family_biases:
            clauses = ", ".join(each.clause() for each in self.family_biases)
            biases = f"; at equal proxy {self.score.noun} it {clauses}"
        return (
            f"the proxy {comparison} on {self.networks} networks and {data_title(self.data)}: "
            f"Kendall tau {proxy.tau:.2f} ({proxy.low:.2f} to {proxy.high:.2f}) against "
            f"{counting.tau:.2f}; it is ahead in {ahead} of 3 cost thirds{biases}{self.caveat}"
        )

    @property
    def score(self) -> Score:
        """What the accuracies are."""
        return Score((self.identity or {}).get("score", Score.ACCURACY))

    def with_caveat(self, identity: Identity | None) -> Audit:
        """Return the audit, with a caveat if its proxy, space or images are not the study's."""
        if self.identity is None or identity is None:
            return self
        study, compared = with_defaults(identity), (*self.identity, "score")
        other = difference(self.identity, {key: study.get(key) for key in compared})
        if other is None:
            return self
        return replace(self, caveat=f"; NOT what this study searches by ({other})")

    def to_dict(self) -> dict[str, Any]:
        """Return the audit as plain data for the file."""
        return {
            "space": self.space,
            "data": self.data,
            "truth": self.truth,
            "networks": self.networks,
            "seconds": self.seconds,
            "noise": self.noise,
            "rankings": [asdict(each) for each in self.rankings],
            "leans": [asdict(each) for each in self.family_biases],
            "stamp": None if self.identity is None else dict(self.identity),
            "caveat": self.caveat,
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Audit:
        """Return the audit from plain data; older files lack biases and identity."""
        audit = Audit(
            space=data["space"],
            data=data["data"],
            truth=data["truth"],
            networks=data["networks"],
            seconds=float(data["seconds"]),
            noise=None if data["noise"] is None else float(data["noise"]),
            rankings=[RankAgreement.from_dict(row) for row in data["rankings"]],
            family_biases=[FamilyBias(**row) for row in data.get("leans", [])],
            identity=data.get("stamp"),
            caveat=data.get("caveat", ""),
        )
        audit.sentence()  # fails without its two scores
        return audit

    def write(self, folder: Path) -> None:
        """Write ``audit.json`` into a study's folder.

        Raises:
            StorageError: it cannot be written.
        """
        write_atomically(folder / AUDIT, json.dumps(self.to_dict(), indent=1))


def read_audit(folder: Path, identity: Identity | None = None) -> Audit | None:
    """Read the audit in a study's folder; None if there is none.

    Raises:
        StorageError: the file is damaged.
    """
    audit = read_json(folder / AUDIT, "audit", Audit.from_dict)
    return None if audit is None else audit.with_caveat(identity)
