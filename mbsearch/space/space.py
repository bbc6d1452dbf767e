"""Search spaces: architectures in which some values are choices."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from hashlib import blake2b
from random import Random
from typing import Any, Self, cast

from mbsearch.errors import SpecError
from mbsearch.printable_text import require_name
from mbsearch.space.architecture import Architecture, Head, Input, Stem
from mbsearch.space.blocks import BLOCKS
from mbsearch.space.image_format import ImageFormat
from mbsearch.space.size import Size
from mbsearch.space.template import (
    Choice,
    Mismatch,
    Node,
    Params,
    choices_in,
    count,
    enumerate_params,
    match,
    parse,
    resolve,
    sample_params,
)
from mbsearch.space.validate import check_template
from mbsearch.space.yaml_nodes import dump_yaml
from mbsearch.space.yaml_source import Document, StrictModel, format_value


@dataclass(frozen=True)
class SearchSpace:
    """The set of networks described by a YAML file with choices."""

    name: str
    template: Mapping[str, Node]

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """All choices in the order of the YAML file, each named like its search parameter."""
        return tuple(choices_in(self.template))

    @cached_property
    def size(self) -> int:
        """Exact number of canonical encodings; a network may have several encodings."""
        return count(self.template)

    def decode(self, params: Mapping[str, Any]) -> Architecture:
        """Return the network with these parameters; those of inactive choices are ignored.

        Raises:
            SpecError: a parameter is unknown, missing, or not one of the options.
        """
        return self.decode_canonical(params)[0]

    @property
    def resolutions(self) -> tuple[Size, ...]:
        """The resolutions of the networks, the smallest first."""
        node = self.template.get("resolution", Architecture.model_fields["resolution"].default)
        values = node.values if isinstance(node, Choice) else (node,)
        return tuple(sorted(map(Size.parse, values)))

    @property
    def image_formats(self) -> tuple[ImageFormat, ...]:
        """The formats of the networks' images, the smallest resolution first."""
        return tuple(map(self.input.at, self.resolutions))

    @cached_property
    def input(self) -> Input:
        """The input that all networks share."""
        return Input.model_validate(self.template.get("input", {}))

    def canonical(self, params: Mapping[str, Any]) -> Params:
        """Return parameters without those of inactive choices."""
        return self.decode_canonical(params)[1]

    def decode_canonical(self, params: Mapping[str, Any]) -> tuple[Architecture, Params]:
        """Return the network with these parameters, and the parameters of active choices.

        This is `decode` and `canonical` in one pass.
        """
        unknown = params.keys() - self._names
        if unknown:
            raise SpecError(
                f"{min(unknown)}: expected a parameter of the space {self.name}, got an unknown one"
            )
        used: Params = {}
        plain = resolve(self.template, params, used)
        rows = {
            "input": _row(Input, tuple(plain.get("input", {}).items())),
            "stem": _row(Stem, tuple(plain["stem"].items())),
            "head": _row(Head, tuple(plain.get("head", {}).items())),
            "stages": tuple(
                _row(BLOCKS[stage["block"]], tuple(stage.items())) for stage in plain["stages"]
            ),
        }
        return Architecture.model_validate(plain | rows), used

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(choice.name for choice in self.choices)

    def encode(self, architecture: Architecture) -> Params:
        """Return the canonical parameters of an architecture.

        Raises:
            SpecError: it is not in the space; the message names the first difference.
        """
        try:
            return match(self.template, architecture)
        except Mismatch as difference:
            raise SpecError(
                f"{architecture.name} is not in the space {self.name}: {difference}"
            ) from None

    def complete(self, params: Mapping[str, Any]) -> Params:
        """Return a value for every choice: the given one, or else the first option."""
        return {choice.name: params.get(choice.name, choice.values[0]) for choice in self.choices}

    def sample(self, seed: int) -> Architecture:
        """Return the network of an encoding drawn uniformly at random with `seed`."""
        return self.decode(self.sample_params(Random(seed)))

    def sample_params(self, rng: Random) -> Params:
        """Return random canonical parameters, drawn uniformly over the encodings."""
        return sample_params(self.template, rng)

    def enumerate_params(self) -> Iterator[Params]:
        """Yield every canonical encoding once."""
        return enumerate_params(self.template)

    def with_classes(self, num_classes: int) -> Self:
        """Return the space with `num_classes`, unless its file sets a number of classes."""
        if "num_classes" in self.template:
            return self
        return replace(self, template={**self.template, "num_classes": num_classes})

    @property
    def fingerprint(self) -> str:
        """Hash of the set of networks (16 hex digits).

        A range and the list of its numbers have the same hash.
        """
        text = json.dumps(_plain(self.template, ranges=False), sort_keys=True)
        return blake2b(text.encode(), digest_size=8).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the space as plain data for a YAML file."""
        return {"name": self.name, **_plain(self.template)}

    def to_yaml(self) -> str:
        """Return the space as the text of a YAML file."""
        return dump_yaml(self.to_dict())


@lru_cache(maxsize=65536)
def _row(model: type[StrictModel], items: tuple[tuple[str, Any], ...]) -> StrictModel:
    """Return a pydantic model for a mapping's items, cached because candidates share stages."""
    return model.model_validate(dict(items))


def _plain(node: Node, *, ranges: bool = True) -> Any:
    """Return a template as plain data; without `ranges`, each range becomes a list of numbers."""
    if isinstance(node, Choice):
        if ranges and node.range is not None:
            return node.range.to_dict()
        return {"choices": [_plain(option, ranges=ranges) for option in node.options]}
    if isinstance(node, Mapping):
        return {key: _plain(value, ranges=ranges) for key, value in node.items()}
    if isinstance(node, tuple):
        return [_plain(item, ranges=ranges) for item in node]
    return node


def read_space(document: Document, other_keys: Sequence[str] = ()) -> SearchSpace:
    """Return the search space described by a parsed YAML file.

    Args:
        document: the parsed file.
        other_keys: top-level keys that are allowed besides those of an architecture.

    Raises:
        SpecError: a mistake in the file; the message has its line and path.
    """
    data: dict[str, Any] = document.data
    name = data.get("name", document.name.removesuffix(".yaml").removesuffix(".yml"))
    if not isinstance(name, str):
        raise document.error(("name",), f"expected text, got {format_value(name)}")
    try:
        require_name(name)
    except ValueError as expected:
        message = f"expected {expected}, got {format_value(name)}"
        raise document.error(("name",), message) from None
    rest = {k: v for k, v in data.items() if k not in other_keys and k != "name"}
    whole = parse(document, rest)
    if isinstance(whole, Choice):
        raise document.error(
            ("choices",), "expected the keys of an architecture, got choices between whole ones"
        )
    template = cast("Mapping[str, Node]", whole)
    check_template(document, template, other_keys)
    return SearchSpace(name, template)


def read_architecture(document: Document, other_keys: Sequence[str] = ()) -> Architecture:
    """Return the architecture described by a parsed YAML file without choices.

    `other_keys` are top-level keys that are allowed besides those of an architecture.

    Raises:
        SpecError: a mistake in the file; the message has its line and path.
    """
    space = read_space(document, other_keys)
    if space.choices:
        where = tuple(_path_of(space.choices[0].name))
        raise document.error(where, "expected an architecture, got choices: this is a search space")
    return space.decode({}).replace(name=space.name)


def _path_of(name: str) -> Iterator[str | int]:
    for part in name.split("."):
        yield int(part) if part.isdigit() else part
