"""Python source as text: arguments of a generated class, and lines broken as formatters do."""

from __future__ import annotations

from collections.abc import Sequence

LINE_LENGTH = 100
ENDS = ("c_in", "c_out")
DEFAULTS = {"stride": "1", "residual": "False"}


class Arguments:
    """Arguments of a class's constructor: one a column of values that differ between its blocks."""

    def __init__(self) -> None:
        self.columns: dict[str, tuple[str, ...]] = {}
        self.types: dict[str, str] = {}

    def add(self, name: str, column: Sequence[str], kind: str = "int") -> str:
        """An argument, even where the column is constant; its name in the source."""
        self.columns[name], self.types[name] = tuple(column), kind
        return name

    def value(self, name: str, column: Sequence[str], kind: str = "int") -> str:
        """The source of a value: itself where all blocks agree, else an argument.

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
    """``prefix function(arguments) end`` on one line, or on several where it is too long."""
    space = " " * indent
    line = f"{space}{prefix}{function}({', '.join(arguments)}){end}"
    if len(line) <= LINE_LENGTH:
        return [line]
    inner = f"{space}    {', '.join(arguments)}"
    if len(inner) <= LINE_LENGTH:
        return [f"{space}{prefix}{function}(", inner, f"{space}){end}"]
    rows = [f"{space}    {argument}," for argument in arguments]
    return [f"{space}{prefix}{function}(", *rows, f"{space}){end}"]


def quoted(docstring: str) -> str:
    """A docstring in its quotes, whatever it holds."""
    text = docstring.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{text}"""'


def parameters(arguments: Sequence[tuple[str, str, str | None]], positional: int) -> list[str]:
    """The first lines of a constructor whose arguments are given as (name, type, default).

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
