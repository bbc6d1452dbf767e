"""Validate a template: every option of every choice must be valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from mbsearch.errors import did_you_mean
from mbsearch.space.architecture import Architecture, Head, Input, Stem
from mbsearch.space.blocks import BLOCKS
from mbsearch.space.template import Choice, Node, block_types, choices_in, keys_of
from mbsearch.space.yaml_source import Document, NodePath, StrictModel, format_error, format_value

_FIXED = ("num_classes", "input")  # the images decide it, not the search


def check_template(
    document: Document, template: Mapping[str, Node], other_keys: Sequence[str] = ()
) -> None:
    """Validate every option of a template, without enumerating combinations.

    Each mapping of scalars is validated once with the first options, and once for every further
    option. `other_keys` are allowed keys of the file, which a message about an unknown key lists.

    Raises:
        SpecError: an invalid option; the message has its file, line and path.
    """
    rows: dict[str, Any] = {}
    known = (*Architecture.model_fields, *other_keys)
    for key, node in template.items():
        if key not in Architecture.model_fields:
            raise document.error(
                (key,), f"unknown key, expected one of {', '.join(known)}{did_you_mean(key, known)}"
            )
        if key in _FIXED and (chosen := next(choices_in(node), None)) is not None:
            at = tuple(chosen.name.split("."))
            raise document.error(at, "expected one value: the images decide it, not the search")
    for key, model in (("input", Input), ("stem", Stem), ("head", Head)):
        if key in template:
            rows[key] = _check_mapping(document, model, template[key], (key,))
    if "stages" in template:
        rows["stages"] = _check_stages(document, template["stages"], ("stages",))
    _check_row(document, Architecture, {**template, **rows}, ())


def _check_mapping(
    document: Document, model: type[StrictModel], node: Node, path: NodePath
) -> StrictModel:
    """Validate a stem or head, or every option of a choice; return the first as a model."""
    if isinstance(node, Choice) and node.structural:
        at = (*path, "choices")
        rows = [_check_mapping(document, model, o, (*at, i)) for i, o in enumerate(node.options)]
        return rows[0]
    if not isinstance(node, Mapping):
        raise document.error(path, f"expected a mapping, got {_format_node(node)}")
    return _check_row(document, model, node, path)


def _check_stages(document: Document, node: Node, path: NodePath) -> tuple[StrictModel, ...]:
    """Validate a list of stages, or every list of a choice; return the first list."""
    if isinstance(node, Choice):
        at = (*path, "choices")
        rows = [_check_stages(document, o, (*at, i)) for i, o in enumerate(node.options)]
        return rows[0]
    if not isinstance(node, tuple) or not node:
        raise document.error(path, f"expected a list of stages, got {_format_node(node)}")
    return tuple(_check_stage(document, stage, (*path, i)) for i, stage in enumerate(node))


def _check_stage(document: Document, node: Node, path: NodePath) -> StrictModel:
    """Validate a stage or a choice between several; return it with the first options.

    Its block type may be a choice too.
    """
    if isinstance(node, Choice) and node.structural:
        at = (*path, "choices")
        rows = [_check_stage(document, o, (*at, i)) for i, o in enumerate(node.options)]
        return rows[0]
    if not isinstance(node, Mapping):
        raise document.error(path, f"expected a stage (a mapping), got {_format_node(node)}")
    if "block" not in node:
        raise document.error((*path, "block"), f"expected one of {', '.join(BLOCKS)}, got nothing")
    blocks = block_types(node)
    for i, block in enumerate(blocks):
        if not isinstance(block, str) or block not in BLOCKS:
            at = (*path, "block", "choices", i) if len(blocks) > 1 else (*path, "block")
            raise document.error(
                at,
                f"expected one of {', '.join(BLOCKS)}, got {format_value(block)}"
                + did_you_mean(str(block), BLOCKS),
            )
    known = sorted({key for block in blocks for key in BLOCKS[block].model_fields})
    for key in node:
        if key not in known:
            message = f"unknown key of {' or '.join(blocks)}, expected one of {', '.join(known)}"
            raise document.error((*path, key), message + did_you_mean(key, known))
    checked = [_check_row(document, BLOCKS[b], keys_of(node, b), path) for b in blocks]
    return checked[0]


def _check_row(
    document: Document, model: type[StrictModel], row: Mapping[str, Any], path: NodePath
) -> StrictModel:
    """Validate a mapping of scalars and scalar choices; return it with each first option."""
    for key, node in row.items():
        structured = isinstance(node, Mapping | tuple) and not _is_checked(node)
        if structured or (isinstance(node, Choice) and node.structural):
            raise document.error((*path, key), f"expected a single value, got {_format_node(node)}")
    first = {k: v.options[0] if isinstance(v, Choice) else v for k, v in row.items()}
    result = _validated(document, model, first, path, row)
    for key, node in row.items():
        if isinstance(node, Choice):
            for i, option in enumerate(node.options[1:], start=1):
                _validated(document, model, first | {key: option}, path, row, changed=(key, i))
    return result


def _is_checked(node: object) -> bool:
    """Return whether a value is a tuple of stages that this module has validated."""
    return isinstance(node, tuple) and all(isinstance(item, StrictModel) for item in node)


def _validated(
    document: Document,
    model: type[StrictModel],
    data: Mapping[str, Any],
    path: NodePath,
    row: Mapping[str, Any],
    changed: tuple[str, int] | None = None,
) -> StrictModel:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        at: NodePath = (*path, key)
        node = row.get(key)
        if isinstance(node, Choice):
            index = changed[1] if changed and changed[0] == key else 0
            at = (*at, "choices", index) if node.range is None else (*at, "range")
        raise document.error(at, format_error(first, tuple(model.model_fields))) from None


def _format_node(node: Node) -> str:
    return "choices" if isinstance(node, Choice) else format_value(node)
