"""Command class that refuses repeated single-value options and unusable numbers."""

from __future__ import annotations

import math
from typing import Any

from typer.core import TyperCommand, TyperOption

from mbsearch.errors import SpecError

_LARGEST = 2**32 - 1  # of an integer; Optuna's samplers take no larger seeds


class Command(TyperCommand):
    """A command that refuses repeated single-value options, and infinite or huge numbers."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse a command line.

        Raises:
            SpecError: an option of a single value is given twice, or a number is infinite, not a
                number, or too large.
        """
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        options = [p for p in given if p.param_type_name == "option"]
        if not any(option.is_eager for option in options):  # as --help
            for option in options:
                is_flag = isinstance(option, TyperOption) and option.is_flag
                harmless = option.multiple or (is_flag and not option.secondary_opts)
                if options.count(option) > 1 and not harmless:
                    raise SpecError(f"{option.opts[0]}: expected once, got twice")
        rest: list[str] = super().parse_args(ctx, args)
        for option in options:
            for value in _values(ctx.params.get(option.name)):
                _check_number(option.opts[0], value)
        return rest


def _values(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_number(option: str, value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{option}: expected a finite number, got {value}")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise SpecError(f"{option}: expected an integer of at most {_LARGEST:,}, got a larger one")
