"""Generate Python source: constructor arguments, and lines broken to a maximum length."""

from __future__ import annotations

from collections.abc import Sequence

LINE_LENGTH = 100
ENDS = ("c_in", "c_out")
DEFAULTS = {"stride": "1", "residual": "False"}


class Arguments:
    """Constructor arguments of a class, each with one value per block."""

    def __init__(self) -> None:
        self.columns: dict[str, tuple[str, ...]] = {}
        self.types: dict[str, str] = {}

    def add(self, name: str, column: Sequence[str], kind: str = "int") -> str:
        """Add an argument, even if its value is the same for all blocks; return its name."""
        self.columns[name], self.types[name] = tuple(column), kind
        return name

    def value(self, name: str, column: Sequence[str], kind: str = "int") -> str:
        """Return the source of a value: a constant if all blocks agree, otherwise an argument.

        Columns that agree in every block share an argument.
        """
        if len(set(column)) == 1:
            return column[0]
        for known, values in self.columns.items():
            if values == tuple(column) and self.types[known] == kind and known not in ENDS:
                return known
        free = name if name not in self.columns else f"{name}_{len(self.columns)}"
        return self.add(free, column, kind)


def call(
    prefix: str, function: str, arguments: Sequence[str], indent: int, end: str = ""
) -> list[str]:
    """Return ``prefix function(arguments) end`` as lines of source, broken if too long."""
    space = " " * indent
    line = f"{space}{prefix}{function}({', '.join(arguments)}){end}"
    if len(line) <= LINE_LENGTH:
        return [line]
    inner = f"{space}    {', '.join(arguments)}"
    if len(inner) <= LINE_LENGTH:
        return [f"{space}{prefix}{function}(", inner, f"{space}){end}"]
    rows = [f"{space}    {argument}," for argument in arguments]
    return [f"{space}{prefix}{function}(", *rows, f"{space}){end}"]


def constant(name: str, values: Sequence[str]) -> list[str]:
    """Format a tuple as a constant; put each value on its own line if one line is too long."""
    line = f"{name} = ({', '.join(values)}{',' * (len(values) == 1)})"
    if len(line) <= LINE_LENGTH:
        return [line]
    return [f"{name} = (", *(f"    {value}," for value in values), ")"]


def literal(text: str) -> str:
    """Format a string as a Python literal, in double quotes if it contains none."""
    found = repr(text)
    return found if found[0] == '"' or '"' in found else f'"{found[1:-1]}"'


def quoted(docstring: str) -> str:
    """Return a docstring in quotes, with escaped characters."""
    text = docstring.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{text}"""'


def parameters(arguments: Sequence[tuple[str, str, str | None]], positional: int) -> list[str]:
    """Return a constructor's signature as lines of source.

    All but the first `positional` are keyword-only.
    """
    texts = [
        f"{n}: {kind}" + (f" = {default}" if default else "") for n, kind, default in arguments
    ]
    if len(texts) > positional:
        texts.insert(positional, "*")
    line = f"    def __init__(self, {', '.join(texts)}) -> None:"
    if len(line) <= LINE_LENGTH:
        return [line]
    inner = f"        self, {', '.join(texts)}"
    if len(inner) <= LINE_LENGTH:
        return ["    def __init__(", inner, "    ) -> None:"]
    rows = [f"        {text}," for text in ("self", *texts)]
    return ["    def __init__(", *rows, "    ) -> None:"]
