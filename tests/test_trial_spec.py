from __future__ import annotations

from typing import Any

import pytest

from mbsearch.config.families import scaled_reference
from mbsearch.cost import measure
from mbsearch.study.records import Fidelity
from mbsearch.study.trial_spec import TrialKind, TrialSpec

NETWORK = scaled_reference("mobilenet_v2", 0.35, 96, 10)


def spec(kind: TrialKind, origin: str = "mobilenet_v2", epochs: int | None = None) -> TrialSpec:
    costs = measure(NETWORK)
    return TrialSpec(
        kind, 3, origin, NETWORK, NETWORK.fingerprint, costs, {}, seed=5, epochs=epochs
    )


@pytest.mark.parametrize("kind", TrialKind)
def test_a_spec_is_the_same_after_storage(kind: TrialKind) -> None:
    origin = "search" if kind is TrialKind.SEARCH else "mobilenet_v2"
    before = spec(kind, origin, epochs=20 if kind is TrialKind.FINAL else None)
    assert TrialSpec.from_dict(before.to_dict()) == before


@pytest.mark.parametrize(
    ("older", "kind"),
    [
        ({}, TrialKind.BASELINE),
        ({"origin": "search"}, TrialKind.SEARCH),
        ({"repeat": True}, TrialKind.REPEAT),
        ({"repeat": False, "promoted": True}, TrialKind.PROMOTION),
        ({"repeat": True, "promoted": True}, TrialKind.PROMOTION_REPEAT),
    ],
)
def test_specs_of_older_versions_are_read(older: dict[str, Any], kind: TrialKind) -> None:
    data = spec(TrialKind.BASELINE).to_dict()
    for key in ("repeat", "fidelity", "metric"):
        del data[key]
    read = TrialSpec.from_dict(data | older)
    assert read.kind is kind
    assert read.metric == "mult_adds"
    assert read.cost == read.costs["mult_adds"]


def test_stored_keys_are_those_that_older_versions_read() -> None:
    data = spec(TrialKind.PROMOTION_REPEAT).to_dict()
    assert data["repeat"] is True
    assert data["fidelity"] == str(Fidelity.PROMOTION)
    assert "epochs" not in data
