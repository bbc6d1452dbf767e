"""README and docs: commands, links and files that they name exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from mbsearch.cli import app

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "results/README.md")), *DOCS]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def commands(text: str) -> list[list[str]]:
    """Return the `mbsearch` command lines of a page's shell blocks, as words."""
    lines = [
        line
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    parts = [part.split(" > ")[0] for line in lines for part in line.split("&&")]
    words = [shlex.split(part, comments=True) for part in parts]
    return [each[each.index("mbsearch") + 1 :] for each in words if "mbsearch" in each]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist_with_their_options(page: Path) -> None:
    for name, *arguments in commands(page.read_text()):
        assert name in COMMANDS, f"{page.name}: mbsearch {name}"
        known = {
            option
            for parameter in COMMANDS[name].params
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.split("=")[0] for word in arguments if word.startswith("-")}
        assert used <= known, f"{page.name}: mbsearch {name} {sorted(used - known)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_of_a_page_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("name", ["docs/index.md", "CONTRIBUTING.md"])
def test_files_that_a_guide_names_exist(name: str) -> None:
    roots = (ROOT, ROOT / "mbsearch")
    for path in re.findall(
        r"`([\w./-]+(?:\.py|\.md|\.yaml|\.yml|\.toml|/))`", (ROOT / name).read_text()
    ):
        if path not in {"results/", "PHOTOS/"}:
            assert any((root / path).exists() for root in roots), f"{name}: {path}"


def test_pages_that_the_code_names_exist() -> None:
    for path in (ROOT / "mbsearch").rglob("*.py"):
        for page in re.findall(r"docs/[\w/.-]+?\.md", path.read_text()):
            assert (ROOT / page).exists(), f"{path.relative_to(ROOT)}: {page}"


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    for page in DOCS:
        assert f"- {page.relative_to(ROOT / 'docs')}\n" in navigation


def test_readme_is_short_and_installs_as_ci_does() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) < 150
    install = ".venv/bin/pip install -e '.[dev]'"
    assert install in readme
    assert install in (ROOT / ".ci/run").read_text().replace("--quiet ", "")


def test_python_of_the_readme_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["module"].training
