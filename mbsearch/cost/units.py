"""Costs as people read them: quantities with their units, and round ones between two values."""

from __future__ import annotations

NOUNS = {
    "mult_adds": "Mult-Adds",
    "params": "parameters",
    "peak_activation_bytes": "activation memory",
    "latency_us": "latency",
}
"""What a cost is called inside a sentence."""

TITLES = {
    "mult_adds": "Mult-Adds",
    "params": "Parameters",
    "peak_activation_bytes": "Memory",
    "latency_us": "Latency",
}
"""What a cost is called above a column."""

_KIB, _MIB = 2**10, 2**20


def millions(count: int) -> str:
    """A count in millions as tables print it: ``300.8 M``."""
    return f"{_rounded(count / 1e6, 4)} M"


def _rounded(value: float, digits: int) -> str:
    """A number of so many digits, or more where it has them before the point."""
    text = f"{value:,.{digits}g}"
    return f"{value:,.0f}" if "e+" in text else text


def quantity(metric: str, value: float) -> str:
    """A cost with its unit: ``300.8 M``, ``500 k``, ``1.5 MiB``, ``4.2 ms``."""
    if metric.endswith("bytes"):
        small = value < _MIB
        return f"{_rounded(value / (_KIB if small else _MIB), 3)} {'KiB' if small else 'MiB'}"
    if metric.endswith("_us"):
        return f"{_rounded(value / 1e3, 3)} ms"
    if metric == "params" and value < 1e6:
        return f"{_rounded(value / 1e3, 4)} k"
    return millions(round(value))


def amount(metric: str, value: float) -> str:
    """A cost with its unit and its name: ``300.8 M Mult-Adds``, ``4.2 ms latency``."""
    return f"{quantity(metric, value)} {'of ' * metric.endswith('bytes')}{NOUNS[metric]}"


def columns(metric: str, *others: str) -> tuple[str, ...]:
    """The costs that a table shows: the one that accuracy is weighed against, and the others."""
    return tuple(dict.fromkeys((metric, *others)))


def round_amounts(metric: str, *, fine: bool = False) -> list[float]:
    """Every round value of a cost: 1, 2, 5, 10, ..., and powers of two for memory.

    The `fine` ones are 1, 2, 3, ..., 9, 10, 20, ..., and the quarters between powers of two.
    """
    if metric.endswith("bytes"):
        quarters = (4, 5, 6, 7) if fine else (4,)
        return [quarter * 2.0**exponent for exponent in range(6, 38) for quarter in quarters]
    mantissas = range(1, 10) if fine else (1, 2, 5)
    return [mantissa * 10.0**exponent for exponent in range(12) for mantissa in mantissas]
