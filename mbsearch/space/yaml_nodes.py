"""Nodes of YAML 1.2 text, limited in number and depth, with scalars of the core schema.

PyYAML reads YAML 1.1, where ``024`` is 20, ``1:36`` is 96, ``no`` is false and ``1e-3`` is text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from mbsearch.printable_text import is_printable

MOST_NODES = 20_000
"""Keys and values of a file, each counted as often as an alias repeats it."""
MOST_DEPTH = 100

_MOST_DIGITS = 18  # of an integer: 64 bits
_MOST_CHARACTERS = 4096  # of a text, as a path's
_TAG = "tag:yaml.org,2002:"
_INT = r"[-+]?[0-9]+(?:_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+"
_FLOAT = (
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:_[0-9]+)*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
# Tag, its plain scalars, and their first characters; the first row that matches decides.
_PLAIN = (
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+0123456789.")),
    ("merge", "<<", ["<"]),
)
_EXPECTED = {
    "null": "nothing",
    "bool": "true or false",
    "int": "an integer",
    "float": "a number",
}

Scalar = str | int | float | bool | None


class _Loader(yaml.SafeLoader):
    """Composes nodes and limits their number, counting each alias as a copy."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._composed = 0
        self._extents: dict[int, tuple[int, int]] = {}  # nodes and depth below each node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._extents:
                raise _error("an alias is inside its own anchor", event.start_mark)
            return node
        assert node is not None
        below = [self._extents[id(child)] for child in _children(node)]
        nodes = 1 + sum(count for count, _ in below)
        depth = 1 + max((depth for _, depth in below), default=0)
        self._composed += 1
        self._extents[id(node)] = nodes, depth
        if max(nodes, self._composed) > MOST_NODES:
            raise _error(
                f"it has more than {MOST_NODES:,} keys and values, aliases expanded",
                event.start_mark,
            )
        if depth > MOST_DEPTH:
            raise _error(f"it is nested more than {MOST_DEPTH} deep", event.start_mark)
        return node


def _add_resolvers(target: type[yaml.SafeLoader] | type[yaml.SafeDumper]) -> None:
    for tag, pattern, first in _PLAIN:
        target.add_implicit_resolver(f"{_TAG}{tag}", re.compile(rf"(?:{pattern})\Z"), first)


class _Dumper(yaml.SafeDumper):
    """Quotes strings that YAML 1.1 or 1.2 would not read as strings."""


_Loader.yaml_implicit_resolvers = {}  # without those of YAML 1.1
_add_resolvers(_Loader)
_add_resolvers(_Dumper)


def dump_yaml(data: Any) -> str:
    """Return YAML text that this module and other YAML readers read back as the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)


def compose(text: str) -> yaml.Node | None:
    """Return the root node of YAML text, or None if it is empty; aliases share nodes.

    Raises:
        yaml.MarkedYAMLError: the text is not YAML, has too many nodes, or a node within itself.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    except RecursionError:
        raise _error(f"it is nested more than {MOST_DEPTH} deep", loader.get_mark()) from None
    except (ValueError, OverflowError):  # of numbers in escapes and directives
        raise _error("a number is too large", loader.get_mark()) from None
    finally:
        loader.dispose()


def merged(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return the keys and values of a mapping; those of its merge keys (<<) come first.

    Raises:
        yaml.MarkedYAMLError: the value of a merge key is not a mapping or a list of mappings.
    """
    yaml.constructor.SafeConstructor().flatten_mapping(node)
    return list(node.value)


def scalar(node: yaml.ScalarNode) -> Scalar:
    """Return the value of a scalar by the core schema of YAML 1.2.

    Raises:
        ValueError: its tag is not of the core schema, its text does not fit the tag, a number
            begins with a zero, or a text is not printable; the message says what is expected.
    """
    text, kind = str(node.value), node.tag.removeprefix(_TAG)
    if kind in ("str", "merge"):
        if len(text) > _MOST_CHARACTERS:
            raise ValueError(f"text of at most {_MOST_CHARACTERS:,} characters")
        if not is_printable(text):
            raise ValueError("printable text on one line")
        return text
    if kind not in _EXPECTED:
        raise ValueError(f"a value without the tag {node.tag.replace(_TAG, '!!')}")
    pattern = next(pattern for tag, pattern, _ in _PLAIN if tag == kind)
    if not re.fullmatch(f"{pattern}|{_INT}" if kind == "float" else pattern, text):
        raise ValueError(_EXPECTED[kind])
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    return _number(text, kind)


def _number(text: str, kind: str) -> int | float:
    if re.match("[-+]?0[0-9_]", text):
        plain = re.sub("^([-+]?)[0_]+(?=[0-9])", r"\1", text)
        raise ValueError(f"a number without a leading zero ({plain}), or text in quotes")
    if kind == "float":
        plain = text.replace("_", "").lower()
        return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    number = int(text.replace("_", ""), base) if len(text) < 100 else 10**_MOST_DIGITS
    if abs(number) >= 10**_MOST_DIGITS:
        raise ValueError(f"an integer of at most {_MOST_DIGITS} digits")
    return number


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _error(problem: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
