"""Find phrases of `language.toml` in docstrings, comments, messages and docs.

    python scripts/check_language.py [--counts] [FOLDER ...]

Prints one line a hit, with file, line and the words to use instead; with --counts the number of
hits by folder. FOLDER restricts the search. The exit code is 1 if there is a hit.
"""

from __future__ import annotations

import argparse
import ast
import io
import itertools
import re
import sys
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCES = ("mbsearch", "tests", "benchmarks", "scripts", "examples", "search_spaces")
SUFFIXES = {".py", ".md", ".yaml", ".html", ".js"}
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md", "docs")
_IDENTIFIER = re.compile(r"[\w./*-]*")  # a key, an option or a file name is no message
_INLINE_CODE = re.compile(r"``[^`]+``|`[^`]+`")
_FENCED_CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


class Text(NamedTuple):
    """Prose of a file that starts at a line."""

    line: int
    prose: str


class Hit(NamedTuple):
    """A phrase that was found, and the words to use instead."""

    path: Path
    line: int
    phrase: str
    say: str


class Phrases:
    """The phrases of `language.toml`."""

    def __init__(self, path: Path) -> None:
        table = tomllib.loads(path.read_text())
        self._innocent = _pattern(table["innocent"])
        self._say = {say: _pattern(phrases) for say, phrases in table["say"].items()}

    def hits(self, path: Path, text: Text) -> Iterator[Hit]:
        """Yield the phrases of one text."""
        prose = self._innocent.sub(_blank, text.prose)
        for say, pattern in self._say.items():
            for match in pattern.finditer(prose):
                line = text.line + prose.count("\n", 0, match.start())
                yield Hit(path, line, " ".join(match[0].split()), say)


def _pattern(phrases: list[str]) -> re.Pattern[str]:
    spaced = (phrase.replace(" ", r"\s+") for phrase in phrases)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(spaced)})(?![\w-])", re.IGNORECASE)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", "_", match[0])


def strings(source: str) -> Iterator[Text]:
    """Yield docstrings and messages: every string that is more than a name."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if not _IDENTIFIER.fullmatch(node.value):
            yield Text(node.lineno, _INLINE_CODE.sub(_blank, node.value))


def comments(source: str) -> Iterator[Text]:
    """Yield blocks of comments on consecutive lines."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {t.start[0]: t.string.lstrip("#") for t in tokens if t.type == tokenize.COMMENT}
    for first in (line for line in lines if line - 1 not in lines):
        block = itertools.takewhile(lines.__contains__, itertools.count(first))
        prose = "\n".join(lines[line] for line in block)
        yield Text(first, _INLINE_CODE.sub(_blank, prose))


def paragraphs(markdown: str) -> Iterator[Text]:
    """Yield a page without its code."""
    yield Text(1, _INLINE_CODE.sub(_blank, _FENCED_CODE.sub(_blank, markdown)))


def files(folders: list[str]) -> Iterator[Path]:
    """Yield the files with prose of the project, or of some of its folders."""
    for name in folders or [*SOURCES, *PAGES]:
        path = ROOT / name
        if path.is_file():
            yield path
        yield from sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES)


def find(folders: list[str]) -> list[Hit]:
    """Return every hit, by file and line."""
    phrases = Phrases(Path(__file__).with_name("language.toml"))
    found = []
    for path in files(folders):
        content = path.read_text()
        python = path.suffix == ".py"
        texts = [*strings(content), *comments(content)] if python else paragraphs(content)
        shown = path.relative_to(ROOT)
        found += [hit for text in texts for hit in phrases.hits(shown, text)]
    return sorted(found)


def main() -> int:
    """Print the hits, or their number by folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--counts", action="store_true")
    arguments = parser.parse_args()
    hits = find(arguments.folders)
    if arguments.counts:
        rooms = Counter("/".join(hit.path.parts[:2]) for hit in hits)
        for room, count in sorted(rooms.items()):
            print(f"{count:5} {room}")
    else:
        for hit in hits:
            print(f"{hit.path}:{hit.line}: {hit.phrase!r}; say: {hit.say}")
    print(f"{len(hits)} phrases to replace")
    return int(bool(hits))


if __name__ == "__main__":
    sys.exit(main())
