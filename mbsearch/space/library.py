"""Find architectures and search spaces by path or by packaged name."""

from __future__ import annotations

from pathlib import Path

from mbsearch.errors import SpecError, did_you_mean
from mbsearch.space.architecture import Architecture
from mbsearch.space.space import read_architecture
from mbsearch.space.yaml_source import read_document

_REFERENCES = Path(__file__).parent / "reference"
_INSTALLED_SPACES = Path(__file__).parent.parent / "search_spaces"
_CHECKOUT_SPACES = Path(__file__).parent.parent.parent / "search_spaces"


def _stems(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def spaces_folder() -> Path:
    """Return the folder of the packaged spaces, or in a checkout the folder beside the package."""
    return _INSTALLED_SPACES if _INSTALLED_SPACES.is_dir() else _CHECKOUT_SPACES


def reference_names() -> list[str]:
    """Return the names of the packaged reference architectures."""
    return _stems(_REFERENCES)


def space_names() -> list[str]:
    """Return the names of the packaged search spaces."""
    return _stems(spaces_folder())


def papers_folder() -> Path:
    """Return the folder of the packaged spaces of the papers' experiments."""
    return spaces_folder() / "papers"


def paper_names() -> list[str]:
    """Return the names of the packaged spaces of the papers' experiments."""
    return _stems(papers_folder())


def find(name: str | Path) -> Path:
    """Return the YAML file for a path or the name of a packaged space or reference.

    Of equal names, a file comes first, then a space, an experiment of a paper, and a reference.

    Raises:
        SpecError: there is none; the message suggests the closest name.
    """
    path = Path(name)
    if path.exists() and not path.is_dir():
        return path
    if path.parent == Path():
        for folder in (spaces_folder(), papers_folder(), _REFERENCES):
            candidate = folder / f"{path.name.removesuffix('.yaml')}.yaml"
            if candidate.is_file():
                return candidate
    if path.is_dir():  # reading it raises the error
        return path
    known = [*space_names(), *paper_names(), *reference_names()]
    raise SpecError(
        f"{name}: no such file, and no shipped space or reference of that name; "
        f"expected a YAML file or one of {', '.join(known)}"
        + did_you_mean(path.name.removesuffix(".yaml"), known)
    )


def load_reference(name: str) -> Architecture:
    """Return the packaged reference architecture with this name.

    Raises:
        SpecError: there is no reference of that name.
    """
    if name not in reference_names():
        raise SpecError(
            f"{name}: expected one of {', '.join(reference_names())}"
            + did_you_mean(name, reference_names())
        )
    return read_architecture(read_document(_REFERENCES / f"{name}.yaml"))
