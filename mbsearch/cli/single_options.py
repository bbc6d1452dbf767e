"""Commands that refuse an option given twice if it takes one value."""

from __future__ import annotations

from collections import Counter
from typing import Any

from typer.core import TyperCommand

from mbsearch.errors import SpecError


class SingleOptions(TyperCommand):
    """A command whose options have one value each, unless they may be repeated.

    The parser keeps the last value of an option and drops the others without a message. Repeating a
    switch such as ``--json`` is no error.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command.

        Raises:
            SpecError: an option that takes one value is given twice; it is named.
        """
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for parameter, times in Counter(given).items():
            switch = getattr(parameter, "is_flag", False) and not parameter.secondary_opts
            if times > 1 and not parameter.multiple and parameter.nargs == 1 and not switch:
                raise SpecError(f"{parameter.opts[0]}: expected one value, got {times}")
        return super().parse_args(ctx, args)
