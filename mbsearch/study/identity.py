"""Study identity: the settings that trials depend on, and differences between identities.

A run with another identity than the study's is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from mbsearch.config.scores import Score
from mbsearch.config.settings import Settings
from mbsearch.config.specification import SearchSpecification
from mbsearch.cost.metrics import COSTS

Identity = Mapping[str, Any]
"""Settings, seed and content keys by name, as plain data."""

IDENTITY = "stamp"
"""User attribute of a study: its identity."""

_OPAQUE = {"space": "its space has other choices now", "data_key": "its images are others now"}


def scoring_identity(space: SearchSpecification, data_key: str) -> Identity:
    """Return the part of an identity that an audit must match: images, space, proxy and score.

    Accuracy is no part of it, as in earlier versions.
    """
    score = space.settings.score
    return {
        **({} if score is Score.ACCURACY else {"score": str(score)}),
        "data_key": data_key,
        "space": space.fingerprint,
        "proxy": space.settings.proxy.model_dump(mode="json", exclude={"data", "min_images"}),
    }


def stored_objectives(settings: Mapping[str, Any]) -> tuple[Score, str]:
    """Return the score and the key of the cost that a study with these settings was searched for.

    Studies of older versions do not store them; theirs are accuracy and Mult-Adds.
    """
    score, cost = (settings.get(IDENTITY) or {}).get("objectives") or Settings().objectives
    return Score(score), COSTS[cost].key


def fingerprint_of(identity: Identity) -> str:
    """Return a short hash of an identity, used in file names."""
    return blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=4).hexdigest()


def with_defaults(identity: Identity) -> Identity:
    """Return an identity of an older version, with default values for the keys it lacks."""
    before = Settings()
    return {
        "objectives": list(before.objectives),
        "promotion": before.promotion.model_dump(mode="json", include={"longer"}),
        "weights": None,
        "teacher": None,
        **identity,
        "proxy": {"growth": 0.0} | identity["proxy"],
        "limits": before.limits.model_dump(mode="json") | identity["limits"],
    }


def difference(old: Identity, new: Identity) -> str | None:
    """Return a description of the first difference of two identities; None if they are equal."""
    key = next((k for k in new if old.get(k) != new[k]), None)
    if key is None:
        return None
    before, now = old.get(key), new[key]
    if isinstance(before, dict) and isinstance(now, dict):
        inner = next(k for k in {**now, **before} if before.get(k) != now.get(k))
        return f"{key}.{inner} was {before.get(inner)!r} and is {now.get(inner)!r}"
    return _OPAQUE.get(key, f"{key} was {before!r} and is {now!r}")
