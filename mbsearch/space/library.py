"""Where architectures and spaces are found: the working directory first, then what is shipped."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from mbsearch.errors import SpecError, did_you_mean
from mbsearch.space.architecture import Architecture
from mbsearch.space.space import read_architecture
from mbsearch.space.yaml_source import read_document

FAMILIES = {
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_small": "MobileNetV3-small",
}
"""The families that answers are compared with, as a sentence names them."""
DONORS = {"efficientnet_lite0": "EfficientNet-Lite0"}
"""The references whose trained weights candidates can start from, as a sentence names them."""
PUBLISHED_ALPHAS = {"mobilenet_v1": 0.25, "mobilenet_v2": 0.35, "mobilenet_v3_small": 0.35}
"""Smallest width multiplier of each family that was published."""
PUBLISHED_RESOLUTION = 96
"""Smallest resolution of a reference that was published, in pixels."""

_REFERENCES = Path(__file__).parent / "reference"
_INSTALLED_SPACES = Path(__file__).parent.parent / "search_spaces"
_CHECKOUT_SPACES = Path(__file__).parent.parent.parent / "search_spaces"


def _stems(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def spaces_folder() -> Path:
    """The shipped spaces: inside an installed package, or beside it in a checkout."""
    return _INSTALLED_SPACES if _INSTALLED_SPACES.is_dir() else _CHECKOUT_SPACES


def reference_names() -> list[str]:
    """Names of the packaged reference architectures."""
    return _stems(_REFERENCES)


def space_names() -> list[str]:
    """Names of the shipped search spaces."""
    return _stems(spaces_folder())


def find(name: str | Path) -> Path:
    """The file that a name means: a path, else a shipped space, else a packaged reference.

    Raises:
        SpecError: there is none; the nearest name is proposed.
    """
    path = Path(name)
    if path.exists() and not path.is_dir():
        return path
    if path.parent == Path():
        for folder in (spaces_folder(), _REFERENCES):
            candidate = folder / f"{path.name.removesuffix('.yaml')}.yaml"
            if candidate.is_file():
                return candidate
    if path.is_dir():  # reading it says so
        return path
    known = [*space_names(), *reference_names()]
    raise SpecError(
        f"{name}: no such file, and no shipped space or reference of that name; "
        f"expected a YAML file or one of {', '.join(known)}"
        + did_you_mean(path.name.removesuffix(".yaml"), known)
    )


def load_reference(name: str) -> Architecture:
    """A packaged reference architecture by name.

    Raises:
        SpecError: there is no reference of that name.
    """
    if name not in reference_names():
        raise SpecError(
            f"{name}: expected one of {', '.join(reference_names())}"
            + did_you_mean(name, reference_names())
        )
    return read_architecture(read_document(_REFERENCES / f"{name}.yaml"))


def family_name(family: str) -> str:
    """A family as a sentence names it: ``MobileNetV2``; one that has no such name as it stands."""
    return (FAMILIES | DONORS).get(family, family)


def scaled_reference(
    family: str, alpha: float, resolution: int, num_classes: int | None = None
) -> Architecture:
    """A packaged reference at another width and resolution, named ``MobileNetV2 0.35/128``.

    Raises:
        SpecError: there is no reference of that name, or a value is out of its range.
    """
    name = f"{family_name(family)} {alpha:g}/{resolution}"
    return _cached_reference(family).replace(
        alpha=alpha, resolution=resolution, num_classes=num_classes, name=name
    )


# Parsing a file takes longer than a cost.
_cached_reference = lru_cache(maxsize=None)(load_reference)


def is_published(family: str, network: Architecture) -> bool:
    """Whether a reference is as published: it is no narrower and no smaller than any of its own.

    A reference at another width or resolution is scaled freely.
    """
    smallest = PUBLISHED_ALPHAS.get(family)
    return (
        smallest is not None
        and network.alpha >= smallest
        and network.resolution >= PUBLISHED_RESOLUTION
    )
