"""YAML files with line numbers, for errors that name line, path, expected and actual value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from mbsearch.errors import SpecError, did_you_mean
from mbsearch.printable_text import is_printable
from mbsearch.space.yaml_nodes import compose, merged, scalar
from mbsearch.text_file import read_text

NodePath = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)

_EXPECTED = {
    "missing": "this key, which is missing",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_LONGEST = 60  # characters of a value in a message
_MOST_BYTES = 4_000_000
_COLLECTIONS = {"tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}
_RELATIONS = {
    "greater_than_equal": (">=", "ge"),
    "greater_than": (">", "gt"),
    "less_than_equal": ("<=", "le"),
    "less_than": ("<", "lt"),
}


class StrictModel(BaseModel):
    """Base class of pydantic models for mappings in YAML: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def format_value(value: object) -> str:
    """Return a value as text for a message: scalars as written, containers by kind."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping | BaseModel):
        return "a mapping"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list" if value else "an empty list"
    if isinstance(value, str) and len(value) > _LONGEST:
        value = f"{value[:_LONGEST]}..."
    return repr(value)


def format_error(error: ErrorDetails, known_keys: Sequence[str] = ()) -> str:
    """Return a pydantic error as a message, such as ``expected a number >= 1, got 0``."""
    kind, got, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "missing":
        return f"expected {_EXPECTED[kind]}"
    if kind == "extra_forbidden":
        key = str(error["loc"][-1])
        keys = ", ".join(known_keys)
        return f"unknown key, expected one of {keys}" + did_you_mean(key, known_keys)
    if kind in _RELATIONS:
        sign, key = _RELATIONS[kind]
        bound = context[key]
        text = f"{bound:g}" if isinstance(bound, float) else f"{bound:,}"
        return f"expected a number {sign} {text}, got {format_value(got)}"
    if kind in ("literal_error", "union_tag_invalid"):
        text = str(context.get("expected", context.get("expected_tags")))
        words = [w.strip(" '") for w in text.replace(" or ", ", ").split(",")]
        if kind == "union_tag_invalid":
            got = context["tag"]
        return f"expected one of {', '.join(words)}, got {format_value(got)}" + did_you_mean(
            str(got), words
        )
    if kind == "too_short":
        return f"expected at least {context['min_length']} item, got {format_value(got)}"
    if kind == "value_error":
        return f"expected {context['error']}, got {format_value(got)}"
    return f"expected {_EXPECTED.get(kind, error['msg'])}, got {format_value(got)}"


def format_first_error(error: ValidationError) -> str:
    """Return the first error of a validation as ``path: expected …, got …``."""
    first = error.errors()[0]
    path = ".".join(map(str, first["loc"]))
    return f"{path}: {format_error(first)}"


@dataclass(frozen=True)
class Document:
    """A parsed YAML file: its plain data, and the line number of each node by path."""

    name: str
    data: Any
    lines: Mapping[NodePath, int] = field(default_factory=dict)

    def error(self, path: NodePath, message: str) -> SpecError:
        """Return an error that names file, line and path of a node.

        Its message is like ``v2.yaml:14: stages.1.expansion: message``. A missing node has the line
        of its nearest ancestor.
        """
        at = path
        while at and at not in self.lines:
            at = at[:-1]
        line = self.lines.get(at)
        where = self.name if line is None else f"{self.name}:{line}"
        return SpecError(": ".join(filter(None, (where, ".".join(map(str, path)), message))))

    def validate(self, model: type[M], value: Any, path: NodePath = ()) -> M:
        """Return plain data, found at node `path`, as an instance of a pydantic model.

        Raises:
            SpecError: the data are invalid; the message has file, line and path.
        """
        try:
            return model.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            known = _keys_at(model, first["loc"][:-1])
            raise self.error((*path, *first["loc"]), format_error(first, known)) from None


def _keys_at(model: type[BaseModel], path: NodePath) -> tuple[str, ...]:
    """Return the allowed keys of the mapping at a path in a model's data."""
    for key in path:
        if isinstance(key, str) and key in model.model_fields:
            model = next(_models(model.model_fields[key].annotation), model)
    return tuple(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield every pydantic model in an annotation such as ``tuple[Baseline, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def read_document(path: Path) -> Document:
    """Read and parse a YAML file.

    Raises:
        SpecError: the file cannot be read, is not YAML, or gives a key twice.
    """
    text = read_text(path, "a YAML file", SpecError, _MOST_BYTES)
    return parse_document(text, path.name)


def parse_document(text: str, name: str) -> Document:
    """Parse YAML text; error messages call the file `name`.

    Raises:
        SpecError: the text is not YAML, gives a key twice, or is not a mapping.
    """
    lines: dict[NodePath, int] = {}
    unreadable = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if unreadable:
        line = text.count("\n", 0, unreadable.start()) + 1
        raise SpecError(
            f"{name}:{line}: not valid YAML: expected printable characters, got {unreadable[0]!a}"
        )
    try:
        root = compose(text)
        if root is None:
            raise SpecError(f"{name}: expected a mapping, got an empty file")
        _check_keys(root, (), name, set())
        data = _construct(root, (), lines, name)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        problem = str(error.problem or error.context).replace(r"character '\t'", "a tab")
        raise SpecError(f"{where}: not valid YAML: {problem}") from None
    document = Document(name, data, lines)
    if not isinstance(data, dict):
        raise document.error((), f"expected a mapping, got {format_value(data)}")
    return document


def _construct(node: yaml.Node, path: NodePath, lines: dict[NodePath, int], name: str) -> Any:
    """Return a node's plain data, and add the line numbers of its parts to `lines`.

    PyYAML's own constructor loses them.
    """
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.ScalarNode):
        try:
            return scalar(node)
        except ValueError as expected:
            raise Document(name, None, lines).error(
                path, f"expected {expected}, got {_as_written(node)}"
            ) from None
    if node.tag not in _COLLECTIONS:
        raise Document(name, None, lines).error(
            path, f"expected a list or a mapping without a tag, got {_as_written(node)}"
        )
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, (*path, i), lines, name) for i, item in enumerate(node.value)]
    mapping: dict[str, Any] = {}
    for key_node, value_node in merged(cast("yaml.MappingNode", node)):
        key = str(key_node.value)
        mapping[key] = _construct(value_node, (*path, key), lines, name)
        # A block mapping starts below its key; messages should name the key's line.
        lines[(*path, key)] = key_node.start_mark.line + 1
    return mapping


def _as_written(node: yaml.Node) -> str:
    """Return a node as text for a message: a scalar's value, or the tag of another node."""
    kind = node.tag.replace("tag:yaml.org,2002:", "!!")
    if not isinstance(node, yaml.ScalarNode):
        return str(kind)
    numeric = node.style is None and node.value and not node.value.strip("+-0123456789._eE")
    return str(node.value[:_LONGEST]) if numeric else format_value(node.value)


def _check_keys(node: yaml.Node, path: NodePath, name: str, seen: set[int]) -> None:
    """Raise an error for a key that is not text or that occurs twice in its mapping.

    Each node is checked once: anchors reuse nodes, and merging keys changes them.
    """
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            _check_keys(item, (*path, i), name, seen)
    if not isinstance(node, yaml.MappingNode):
        return
    first_line: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or not is_printable(key_node.value):
            got = _as_written(key_node).replace("!!seq", "a list").replace("!!map", "a mapping")
            raise Document(name, None, {path: line}).error(path, f"expected a key, got {got}")
        key = str(key_node.value)
        if key in first_line:
            message = (
                f"expected every key once, got {key!r} twice (first in line {first_line[key]})"
            )
            raise Document(name, None, {path: line}).error((*path, key), message)
        first_line[key] = line
        _check_keys(value_node, (*path, key), name, seen)
