"""Write the reference of all YAML keys, from the models that validate them.

    python scripts/yaml_reference.py docs/reference.md

A test checks that the committed page is current.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mbsearch.config.baselines import Baseline
from mbsearch.config.budgets import Budget, Limits
from mbsearch.config.finals_settings import Finals
from mbsearch.config.preparation_settings import Supernet, Teacher
from mbsearch.config.promotion_settings import Promotion
from mbsearch.config.proxy_settings import Proxy
from mbsearch.config.racing_settings import Racing
from mbsearch.config.recipe import Recipe
from mbsearch.config.retrain_settings import Retrain
from mbsearch.config.settings import Settings
from mbsearch.space.architecture import Architecture, Head, Input, Stem
from mbsearch.space.blocks import BLOCKS

HEAD = """\
# YAML reference

Every key of a search space and of an architecture, with its values and default, written by
`python scripts/yaml_reference.py docs/reference.md`. [Search spaces](space.md) explains the keys.
`mbsearch schema` prints the JSON Schema for editors.

Keys of the network, the stem, the head and the blocks may be `{choices: [...]}`; numbers may be
`{range: [low, high], step: ...}` or `{range: [low, high], log: true, points: ...}`. `name` and
`num_classes` may not.
"""
OF_EVERY_RECIPE = inspect.cleandoc(Recipe.__doc__ or "").split("\n\n")[1]
SECTIONS: Mapping[str, tuple[type[BaseModel], str]] = {
    "Network": (Architecture, "Keys at the top of a file."),
    "`input`": (Input, ""),
    "`stem`": (Stem, ""),
    "`head`": (Head, ""),
    **{f"`block: {name}`": (model, "") for name, model in BLOCKS.items()},
    "Search": (Settings, "Keys at the top of a file with choices."),
    "`limits`": (Limits, ""),
    "`budgets`": (Budget, "Each entry of the list."),
    "`baselines`": (Baseline, "Each entry of the list."),
    "`proxy`": (Proxy, OF_EVERY_RECIPE),
    "`proxy.supernet`": (Supernet, ""),
    "`teacher`": (Teacher, ""),
    "`racing`": (Racing, ""),
    "`promotion`": (Promotion, ""),
    "`finals`": (Finals, ""),
    "`retrain`": (Retrain, OF_EVERY_RECIPE),
}
_ANCHORS = {
    model.__name__: re.sub(r"[^a-z_ ]", "", title.lower()).replace(" ", "-")
    for title, (model, _) in SECTIONS.items()
}
_BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
}


def reference() -> str:
    """Return the page as Markdown."""
    return HEAD + "".join(
        f"\n## {title}\n\n" + "\n\n".join(filter(None, (note, *_section(model)))) + "\n"
        for title, (model, note) in SECTIONS.items()
    )


def _section(model: type[BaseModel]) -> Iterator[str]:
    """Yield a model's description and the table of its keys."""
    schema = model.model_json_schema()
    yield _markdown(schema.get("description", ""))
    required = schema.get("required", [])
    rows = [
        f"| `{key}` | {values(field)} | {'required' if key in required else _default(field)} |"
        for key, field in schema["properties"].items()
    ]
    yield "\n".join(("| key | values | default |", "|---|---|---|", *rows))


def _markdown(docstring: str) -> str:
    """Return a docstring with single backticks and without its section for Python."""
    text = re.split(r"\n\n(?:Args|Raises|Attributes):", docstring)[0]
    return text.replace("``", "`")


def values(field: Mapping[str, Any]) -> str:
    """Return the values that a JSON Schema allows, as text for a table's cell."""
    if "anyOf" in field:
        options = dict.fromkeys(values(each) for each in field["anyOf"])
        return " or ".join(options)
    if "$ref" in field:
        return f"[keys](#{_ANCHORS[field['$ref'].rsplit('/', 1)[-1]]})"
    if "oneOf" in field:
        return "blocks: keys and `block` of one of the sections below"
    if "const" in field or "enum" in field:
        return ", ".join(f"`{each}`" for each in field.get("enum", [field.get("const")]))
    match field.get("type"):
        case "array":
            items = field.get("prefixItems") or [field.get("items", {})]
            return "list of " + ", ".join(values(each) for each in items)
        case "null":
            return "nothing"
        case "boolean":
            return "`true`, `false`"
        case None:
            return "any"
        case kind:
            bounds = [f"{sign} {field[key]:,}" for key, sign in _BOUNDS.items() if key in field]
            noun = {"string": "text"}.get(kind, kind)
            return " ".join((noun, " and ".join(bounds))).strip()


def _default(field: Mapping[str, Any]) -> str:
    default = field.get("default")
    if default is None:
        return "nothing"
    if isinstance(default, dict):
        return "its defaults"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, list):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{default}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
