"""Templates: plain data of an architecture in which some values are choices.

A node is a scalar, a mapping, a tuple or a `Choice`. Counting, sampling, decoding and encoding are
each one recursion over the nodes. A choice is active if the options picked around it contain it. If
the block type of a stage is a choice, each type has only the keys of its own class.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, product
from math import prod
from random import Random
from typing import Any, TypeGuard, Union, cast

from pydantic import BaseModel

from mbsearch.errors import SpecError, did_you_mean
from mbsearch.space.blocks import BLOCKS
from mbsearch.space.ranges import MOST_VALUES, Range, parse_range
from mbsearch.space.size import Size
from mbsearch.space.yaml_source import Document, NodePath, format_value

Scalar = str | int | float | bool | None
Node = Union[Scalar, Mapping[str, "Node"], tuple["Node", ...], "Choice"]
Params = dict[str, Scalar]

_MOST_LISTED = 20  # values of a choice in a message


@dataclass(frozen=True, slots=True)
class Choice:
    """A value with several options, named by its path in the YAML file.

    The name is also the name of the search parameter. The parameter's values are the options
    themselves if they are scalars, and the options' indices if they are stages or lists of stages
    (`structural`). The options of a `range` are its numbers.
    """

    name: str
    options: tuple[Node, ...]
    structural: bool
    range: Range | None = None

    @property
    def values(self) -> tuple[Scalar, ...]:
        """The values that the search parameter can take."""
        if self.structural:
            return tuple(range(len(self.options)))
        return cast("tuple[Scalar, ...]", self.options)

    def pick(self, params: Mapping[str, Any]) -> int:
        """Return the index of the option that the parameters select.

        Raises:
            SpecError: the parameter is missing, or not one of the options.
        """
        if self.name not in params:
            raise SpecError(f"{self.name}: expected one of {self._listed()}, got no value")
        try:
            return self.values.index(params[self.name])
        except ValueError:
            got = format_value(params[self.name])
            raise SpecError(f"{self.name}: expected one of {self._listed()}, got {got}") from None

    def _listed(self) -> str:
        texts = [str(value) for value in self.values]
        return ", ".join([*texts[:2], "...", texts[-1]] if len(texts) > _MOST_LISTED else texts)

    def absence(self, value: object) -> str:
        """Return why a value is not an option, such as ``starts at 0.35``."""
        options = [o for o in self.options if _is_number(o)]
        if len(options) < len(self.options) or not _is_number(value):
            return f"has {' or '.join(map(str, self.options))}"
        below, above = ([o for o in options if (o < value) is low] for low in (True, False))
        if not below:
            return f"starts at {min(above)}"
        if not above:
            return f"ends at {max(below)}"
        return f"has {max(below)} and {min(above)} next to it"


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse(document: Document, data: Any, path: NodePath = ()) -> Node:
    """Return plain data as a template, with each list of choices or range as a `Choice`.

    Raises:
        SpecError: choices that are empty, not a list, of mixed kinds, repeated, or beside other
            keys; a range that `parse_range` refuses.
    """
    if isinstance(data, list):
        return tuple(parse(document, item, (*path, i)) for i, item in enumerate(data))
    if not isinstance(data, dict):
        return cast("Scalar", data)
    if "choices" in data:
        return _parse_choice(document, data, path)
    if path and "range" in data:
        found = parse_range(document, data, path)
        return Choice(_dotted(path), found.values, structural=False, range=found)
    _refuse_misspelt_choices(document, data, path)
    return {key: parse(document, value, (*path, key)) for key, value in data.items()}


def _dotted(path: NodePath) -> str:
    return ".".join(map(str, path))


def _refuse_misspelt_choices(document: Document, data: Mapping[str, Any], path: NodePath) -> None:
    """Raise an error for a mapping whose only key is a misspelling of ``choices``."""
    if len(data) == 1 and isinstance(next(iter(data.values())), list):
        near = did_you_mean(next(iter(data)), ["choices", "range"])
        if near:
            raise document.error(path, f"unknown key {next(iter(data))!r}{near}")


def _parse_choice(document: Document, data: Mapping[str, Any], path: NodePath) -> Choice:
    """Return the `Choice` that a mapping with the key ``choices`` describes."""
    extra = [key for key in data if key != "choices"]
    if extra:
        raise document.error((*path, extra[0]), "expected no other key beside 'choices'")
    options, at = data["choices"], (*path, "choices")
    if not isinstance(options, list) or not options:
        raise document.error(at, f"expected a list of options, got {format_value(options)}")
    if len(options) > MOST_VALUES:
        raise document.error(
            at, f"expected at most {MOST_VALUES:,} options, got {len(options):,}: use a range"
        )
    for i in range(len(options)):
        _check_option(document, options, i, at)
    nodes = tuple(parse(document, option, (*at, i)) for i, option in enumerate(options))
    return Choice(_dotted(path), nodes, structural=isinstance(options[0], dict | list))


def _check_option(document: Document, options: list[Any], i: int, path: NodePath) -> None:
    """Raise an error for an option that is unlike the first, nested choices or a duplicate."""
    first, option = options[0], options[i]
    structural = isinstance(first, dict | list)
    if type(option) is not type(first) and structural != isinstance(option, dict | list):
        raise document.error(
            (*path, i), f"expected options of one kind, got {format_value(option)} among others"
        )
    if isinstance(option, dict) and ("choices" in option or "range" in option):
        raise document.error((*path, i), "expected an option, got another list of choices")
    if option in options[:i]:
        raise document.error(
            (*path, i), f"expected distinct options, got {format_value(option)} twice"
        )


def choices_in(node: Node) -> Iterator[Choice]:
    """Yield all choices of a template in the order of the YAML, outer before inner ones."""
    if isinstance(node, Choice):
        yield node
        for option in node.options:
            yield from choices_in(option)
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from choices_in(value)
    elif isinstance(node, tuple):
        for item in node:
            yield from choices_in(item)


def block_types(row: Mapping[str, Node]) -> tuple[str, ...]:
    """Return the block types that a stage can have."""
    block = row["block"]
    return cast("tuple[str, ...]", block.options if isinstance(block, Choice) else (block,))


def _rows(row: Mapping[str, Node]) -> Iterator[tuple[Params, Mapping[str, Node]]]:
    """Yield pairs of parameters and mapping: one pair, or for a stage one per block type."""
    if "block" not in row:
        yield {}, row
        return
    for block in block_types(row):
        picked: Params = {}
        if isinstance(row["block"], Choice):
            picked = {row["block"].name: block}
        yield picked, keys_of(row, block)


def keys_of(row: Mapping[str, Node], block: str) -> Mapping[str, Node]:
    """Return a stage's mapping, restricted to the keys of one block type."""
    fields = BLOCKS[block].model_fields
    return {key: value for key, value in row.items() if key in fields} | {"block": block}


def resolve(node: Node, params: Mapping[str, Any], used: Params) -> Any:
    """Return the plain data that `params` select; add the active parameters to `used`.

    Raises:
        SpecError: an active parameter is missing or not one of the options.
    """
    if isinstance(node, Choice):
        index = node.pick(params)
        used[node.name] = node.values[index]
        option = node.options[index]
        return resolve(option, params, used) if node.structural else option
    if isinstance(node, Mapping):
        if "block" in node:
            node = keys_of(node, resolve(node["block"], params, used))
        return {key: resolve(value, params, used) for key, value in node.items()}
    if isinstance(node, tuple):
        return tuple(resolve(item, params, used) for item in node)
    return node


def count(node: Node) -> int:
    """Return the exact number of canonical encodings of a template.

    A canonical encoding has values for active choices only.
    """
    if isinstance(node, Choice):
        return sum(map(count, node.options)) if node.structural else len(node.options)
    if isinstance(node, Mapping):
        return sum(prod(map(count, row.values())) for _, row in _rows(node))
    if isinstance(node, tuple):
        return prod(map(count, node))
    return 1


def enumerate_params(node: Node) -> Iterator[Params]:
    """Yield every canonical encoding of a template once."""
    if isinstance(node, Choice):
        for value, option in zip(node.values, node.options, strict=True):
            for params in enumerate_params(option):
                yield {node.name: value, **params}
    elif isinstance(node, Mapping):
        for picked, row in _rows(node):
            yield from _joined([[picked], *map(_listed, row.values())])
    elif isinstance(node, tuple):
        yield from _joined(list(map(_listed, node)))
    else:
        yield {}


def _listed(node: Node) -> list[Params]:
    return list(enumerate_params(node))


def _joined(parts: list[list[Params]]) -> Iterator[Params]:
    for combination in product(*parts):
        yield {name: value for part in combination for name, value in part.items()}


def sample_params(node: Node, rng: Random) -> Params:
    """Return a random canonical encoding, drawn uniformly."""
    if isinstance(node, Choice):
        weights = [count(o) for o in node.options] if node.structural else [1] * len(node.options)
        index = _weighted(weights, rng)
        return {node.name: node.values[index], **sample_params(node.options[index], rng)}
    if isinstance(node, Mapping):
        rows = list(_rows(node))
        index = _weighted([prod(map(count, row.values())) for _, row in rows], rng)
        picked, row = rows[index]
        return _merged(picked, *(sample_params(value, rng) for value in row.values()))
    if isinstance(node, tuple):
        return _merged(*(sample_params(item, rng) for item in node))
    return {}


def _weighted(weights: list[int], rng: Random) -> int:
    if len(weights) == 1:
        return 0
    return bisect_right(list(accumulate(weights)), rng.random() * sum(weights))


def _merged(*parts: Params) -> Params:
    return {name: value for part in parts for name, value in part.items()}


class Mismatch(Exception):  # noqa: N818 - a signal between encode and its recursion
    """Raised if a network is not in the template.

    `path` is the first key that differs. `got` is the network's value. `reason` describes the
    template's values and continues a sentence after the path: ``starts at 0.35``.
    """

    def __init__(self, path: str, got: str, reason: str) -> None:
        super().__init__(f"{path}: {got} where the space {reason}")
        self.path, self.reason = path, reason

    @property
    def stage(self) -> int:
        """Index of the stage that differs, or -1 if the difference is not in a stage."""
        return next((int(part) for part in self.path.split(".") if part.isdigit()), -1)


def match(node: Node, value: Any, path: str = "") -> Params:
    """Return the canonical encoding of a value: a model, tuple or scalar.

    Raises:
        Mismatch: there is none; of several options, the one with the latest difference counts.
    """
    if isinstance(node, Choice):
        return _match_choice(node, value, path)
    if isinstance(node, Mapping):
        return _match_row(node, value, path)
    if isinstance(node, tuple):
        if len(node) != len(value):
            raise Mismatch(path, f"{len(value)} stages", f"has {len(node)} stages")
        return _merged(
            *(match(n, v, f"{path}.{i}") for i, (n, v) in enumerate(zip(node, value, strict=True)))
        )
    if node != value:
        raise Mismatch(path, format_value(value), f"has {format_value(node)}")
    return {}


def _match_choice(choice: Choice, value: Any, path: str) -> Params:
    if not choice.structural:
        if value not in choice.options:
            raise Mismatch(path, format_value(value), choice.absence(value))
        return {choice.name: choice.values[choice.options.index(value)]}
    differences = []
    for option, name in zip(choice.options, choice.values, strict=True):
        try:
            return {choice.name: name, **match(option, value, path)}
        except Mismatch as difference:
            differences.append(difference)
    keys = list(type(value).model_fields) if isinstance(value, BaseModel) else []

    def agreement(difference: Mismatch) -> tuple[int, int]:
        key = difference.path.rpartition(".")[2]
        return difference.stage, keys.index(key) if key in keys else -1

    raise max(differences, key=agreement)


def _match_row(row: Mapping[str, Node], value: BaseModel, path: str) -> Params:
    params: Params = {}
    if "block" in row:
        params = match(row["block"], getattr(value, "block", None), f"{path}.block")
        row = keys_of(row, str(value.block))  # type: ignore[attr-defined]
    for key, field in type(value).model_fields.items():
        if key == "name":
            continue
        given = getattr(value, key)
        if key in row:
            plain = given.plain if isinstance(given, Size) else given
            params |= match(row[key], plain, f"{path}.{key}".lstrip("."))
        elif given != field.default:
            raise Mismatch(
                f"{path}.{key}".lstrip("."),
                format_value(given),
                f"has {format_value(field.default)}",
            )
    return params
