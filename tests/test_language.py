"""The check of the language finds phrases in prose, and leaves names and code alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS))
from check_language import Phrases, comments, paragraphs, strings  # noqa: E402

PHRASES = Phrases(SCRIPTS / "language.toml")
BAD = "goes " + "by"  # so that the check does not find it here


def found(source: str) -> list[tuple[int, str]]:
    texts = [*strings(source), *comments(source)]
    return [(hit.line, hit.phrase) for text in texts for hit in PHRASES.hits(Path("x.py"), text)]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (f'"""The choice {BAD} this."""\n', 1),
        (f'def f():\n    """Return it.\n\n    It {BAD} this.\n    """\n', 4),
        (f"x = 1\n# It {BAD} this.\n", 2),
        ("x = 1  # first\n# It\n# " + BAD.replace(" ", "\n# ") + " this.\n", 3),
        (f'raise ValueError(f"{{name}}: it {BAD} this")\n', 1),
    ],
)
def test_a_phrase_is_found_with_its_line(source: str, line: int) -> None:
    assert found(source) == [(line, BAD)]


@pytest.mark.parametrize(
    "source",
    [
        'record["sta' + 'mp"]\n',
        '"""Read the key `sta' + 'mp` of old studies."""\n',
        '"""Return networks that are statistically ti' + 'ed."""\n',
        "timesta" + "mp = 1  # the timesta" + "mp of a trial\n",
    ],
)
def test_names_code_and_innocent_phrases_are_not_found(source: str) -> None:
    assert found(source) == []


def test_code_of_a_page_is_not_searched() -> None:
    page = f"It {BAD} this.\n\n```sh\n# it {BAD} this\n```\n\n`{BAD}`\n"
    (text,) = paragraphs(page)
    assert [hit.line for hit in PHRASES.hits(Path("x.md"), text)] == [1]
