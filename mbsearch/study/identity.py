"""What a study and an audit are bound to, and how two of these differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from mbsearch.config.settings import Settings
from mbsearch.config.specification import SearchSpecification

Stamp = Mapping[str, Any]
"""By key what trials or trainings depend on, as plain data."""

_OPAQUE = {"space": "its space has other choices now", "data_key": "its images are others now"}


def scored_by(space: SearchSpecification, data_key: str) -> Stamp:
    """The part that a study and its audit have in common: images, space and proxy."""
    return {
        "data_key": data_key,
        "space": space.fingerprint,
        "proxy": space.settings.proxy.model_dump(mode="json", exclude={"data"}),
    }


def key_of(stamp: Stamp) -> str:
    """A short name: what is kept by different stamps never mixes."""
    return blake2b(json.dumps(stamp, sort_keys=True).encode(), digest_size=4).hexdigest()


def filled(stamp: Stamp) -> Stamp:
    """A stamp of an older version with what came later, as it was then."""
    before = Settings()
    return {
        "objectives": list(before.objectives),
        "promotion": before.promotion.model_dump(mode="json", include={"longer"}),
        "weights": None,
        "teacher": None,
        **stamp,
        "proxy": {"growth": 0.0} | stamp["proxy"],
        "limits": before.limits.model_dump(mode="json") | stamp["limits"],
    }


def difference(old: Stamp, new: Stamp) -> str | None:
    """How a stamp differs first from an old one, in words; None where it does not."""
    key = next((k for k in new if old.get(k) != new[k]), None)
    if key is None:
        return None
    before, now = old.get(key), new[key]
    if isinstance(before, dict) and isinstance(now, dict):
        inner = next(k for k in {**now, **before} if before.get(k) != now.get(k))
        return f"{key}.{inner} was {before.get(inner)!r} and is {now.get(inner)!r}"
    return _OPAQUE.get(key, f"{key} was {before!r} and is {now!r}")
