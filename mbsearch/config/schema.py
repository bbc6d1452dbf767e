"""JSON Schema of search specifications, for editors: pydantic's, extended by choices."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from mbsearch.config.settings import Settings
from mbsearch.space.architecture import Architecture
from mbsearch.space.blocks import BLOCKS
from mbsearch.space.ranges import DEFAULT_POINTS, MOST_VALUES

_FIXED = ("name", "num_classes", "input")
Schema = dict[str, Any]


def json_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of YAML files with and without choices."""
    schema = Architecture.model_json_schema(ref_template="#/$defs/{model}")
    settings = Settings.model_json_schema(ref_template="#/$defs/{model}")
    definitions: Schema = schema["$defs"]
    rows = {model.__name__ for model in BLOCKS.values()}
    for name in [*rows, "Stem", "Head"]:
        _allow_choices(definitions[name])
    stage = _any_stage([definitions[name] for name in sorted(rows)])
    definitions |= {
        "Range": _range(),
        "Stage": stage,
        "Stages": {"type": "array", "items": _or_choices(_ref("Stage"))},
    }
    for name in rows:
        del definitions[name]
    _allow_choices(schema, skip=("stages", "stem", "head", *_FIXED))
    schema["properties"] |= {
        "stages": _or_choices(_ref("Stages")),
        "stem": _or_choices(_ref("Stem")),
        "head": _or_choices(_ref("Head")),
        **settings["properties"],
    }
    schema["$defs"] = definitions | settings["$defs"]
    schema["title"] = "mbsearch search space"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _or_choices(option: Schema) -> Schema:
    """Return the schema of a value that may also be a list of choices."""
    return {
        "anyOf": [
            option,
            {
                "type": "object",
                "properties": {"choices": {"type": "array", "items": option, "minItems": 1}},
                "required": ["choices"],
                "additionalProperties": False,
            },
        ]
    }


def _allow_choices(row: Schema, skip: tuple[str, ...] = ()) -> None:
    for key, leaf in row["properties"].items():
        if key not in skip:
            row["properties"][key] = _or_choices(leaf)
            if any(kind.get("type") in ("integer", "number") for kind in leaf.get("anyOf", [leaf])):
                row["properties"][key]["anyOf"].append(_ref("Range"))


def _range() -> Schema:
    """Return the schema of a range, with a step or on a logarithmic scale."""
    ends = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    points = {
        "type": "integer",
        "minimum": 2,
        "maximum": MOST_VALUES,
        "default": DEFAULT_POINTS,
        "description": "numbers at equal ratios, rounded to three significant digits",
    }
    step = {"type": "number", "exclusiveMinimum": 0, "description": "between neighbours"}
    linear = {"range": ends, "step": step, "log": {"const": False}}
    logarithmic = {"range": ends, "log": {"const": True}, "points": points}
    return {
        "description": f"at most {MOST_VALUES:,} numbers from low to high: [low, high]",
        "anyOf": [
            {
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": False,
            }
            for properties, required in (
                (linear, ["range", "step"]),
                (logarithmic, ["range", "log"]),
            )
        ],
    }


def _any_stage(rows: list[Schema]) -> Schema:
    """Return one schema for the stages of all block types.

    As `block` may be a choice, the keys of all blocks are allowed.
    """
    properties: Schema = {}
    for row in rows:
        properties |= deepcopy(row["properties"])
    properties["block"] = _or_choices({"enum": list(BLOCKS)})
    return {
        "type": "object",
        "properties": properties,
        "required": ["block", "channels"],
        "additionalProperties": False,
    }
