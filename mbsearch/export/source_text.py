"""Generate Python source: arguments of a class, and lines broken as a formatter breaks them."""

from __future__ import annotations

from collections.abc import Sequence

LINE_LENGTH = 100
ENDS = ("c_in", "c_out")
DEFAULTS = {"stride": "1", "residual": "False"}


class Arguments:
    """Arguments of a constructor. Each has a column of values, one per block."""

    def __init__(self) -> None:
        self.columns: dict[str, tuple[str, ...]] = {}
        self.types: dict[str, str] = {}

    def add(self, name: str, column: Sequence[str], kind: str = "int") -> str:
        """Add an argument, even for a constant column; return its name."""
        self.columns[name], self.types[name] = tuple(column), kind
        return name

    def value(self, name: str, column: Sequence[str], kind: str = "int") -> str:
        """Return the source of a value: the value if all blocks agree, else an argument.

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
    """Format ``prefix function(arguments) end``, on several lines if it is too long for one."""
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
    """Format a tuple as a constant, with one value a line if it is too long for one."""
    line = f"{name} = ({', '.join(values)}{',' * (len(values) == 1)})"
    if len(line) <= LINE_LENGTH:
        return [line]
    return [f"{name} = (", *(f"    {value}," for value in values), ")"]


def literal(text: str) -> str:
    """Format a string as Python source, in double quotes where it holds none."""
    found = repr(text)
    return found if found[0] == '"' or '"' in found else f'"{found[1:-1]}"'


def quoted(docstring: str) -> str:
    """Quote and escape a docstring."""
    text = docstring.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{text}"""'


def parameters(arguments: Sequence[tuple[str, str, str | None]], positional: int) -> list[str]:
    """Format the signature of a constructor from arguments (name, type, default).

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
