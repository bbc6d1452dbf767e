"""Search specifications: a search space and the settings for searching it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from mbsearch.config.settings import SETTINGS_KEYS, Settings, dump_settings
from mbsearch.errors import SpecError, did_you_mean
from mbsearch.space.architecture import Architecture
from mbsearch.space.library import find, load_reference, reference_names
from mbsearch.space.space import SearchSpace, read_space
from mbsearch.space.yaml_source import Document, read_document


@dataclass(frozen=True)
class SearchSpecification(SearchSpace):
    """A search space with the settings for searching it.

    `source` is the file that it was read from, for messages.
    """

    settings: Settings
    source: Document | None = field(default=None, compare=False, repr=False)

    def error(self, keys: Sequence[str], message: str) -> SpecError:
        """Return an error that cites the line of the first of `keys` present in the file."""
        given = {} if self.source is None else self.source.data
        for key in keys:
            if self.source is not None and key in given:
                return self.source.error((key,), message)
        return SpecError(f"{self.name}: {keys[0]}: {message}")

    def with_settings(self, changes: Mapping[str, object]) -> Self:
        """Return a copy of the specification with some settings replaced."""
        return replace(self, settings=self.settings.model_copy(update=dict(changes)))

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as plain data for a YAML file."""
        return {**super().to_dict(), **dump_settings(self.settings)}


def read_specification(document: Document) -> SearchSpecification:
    """Return the search specification described by a parsed YAML file.

    Raises:
        SpecError: a mistake in the file; the message has its line and path.
    """
    given = {key: document.data[key] for key in SETTINGS_KEYS if key in document.data}
    settings = document.validate(Settings, given)
    space = read_space(document, SETTINGS_KEYS)
    proxy = settings.proxy.scaled_for(space.resolutions[-1])
    if proxy is not settings.proxy:
        settings = settings.model_copy(update={"proxy": proxy})
    return SearchSpecification(space.name, space.template, settings, document)


def load(name: str | Path) -> Architecture | SearchSpecification:
    """Return the architecture in a YAML file, or the search specification if it has choices.

    `name` is a path, or the name of a packaged space or reference.

    Raises:
        SpecError: there is no such file, or it has a mistake; the message has its line and path.
    """
    document = read_document(find(name))
    specification = read_specification(document)
    for i, baseline in enumerate(specification.settings.baselines):
        if baseline.reference not in reference_names():
            raise document.error(
                ("baselines", i, "reference"),
                f"expected one of {', '.join(reference_names())}, got {baseline.reference!r}"
                + did_you_mean(baseline.reference, reference_names()),
            )
        reference = load_reference(baseline.reference)
        for j, resolution in enumerate(baseline.resolution):
            try:
                list(reference.replace(resolution=resolution).layers())
            except SpecError as error:
                raise document.error(("baselines", i, "resolution", j), str(error)) from None
    if specification.choices:
        return specification
    network = specification.decode({}).replace(name=specification.name)
    try:
        list(network.layers())
    except SpecError as error:
        raise specification.error(("resolution", "stages"), str(error)) from None
    return network


def load_specification(name: str | Path) -> SearchSpecification:
    """Return the search specification in a YAML file with choices.

    Raises:
        SpecError: as in `load`, or the file is an architecture.
    """
    loaded = load(name)
    if isinstance(loaded, Architecture):
        raise SpecError(
            f"{find(name).name}: expected a search space, got an architecture: "
            "no value is {choices: [...]}"
        )
    return loaded


def baseline_architectures(specification: SearchSpecification) -> list[tuple[str, Architecture]]:
    """Return the baselines without duplicates, each with its reference's name."""
    found: dict[str, tuple[str, Architecture]] = {}
    for baseline in specification.settings.baselines:
        reference = load_reference(baseline.reference)
        for resolution in baseline.resolution:
            for alpha in baseline.alpha:
                network = reference.replace(
                    alpha=alpha,
                    resolution=resolution,
                    inputs=specification.input,
                    name=f"{baseline.reference}-{alpha:g}-{resolution}",
                )
                found.setdefault(network.fingerprint, (baseline.reference, network))
    return list(found.values())
