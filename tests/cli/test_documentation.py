"""The documents' commands exist, with the options they are shown with; their links lead on."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ntmobile.cli.admin import APP as ADMIN
from ntmobile.cli.main import application

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_INLINE = re.compile(r"`((?:ntm|make) [^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PLACEHOLDERS = ("...", "COMMAND")


def commands(program: str) -> list[tuple[str, str]]:
    """Every command line of a program that the documents show, with its page."""
    return [
        (page.name, line)
        for page in PAGES
        for line in _lines(page.read_text())
        if line.split()[0] == program
    ]


def _lines(text: str) -> Iterator[str]:
    outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for line in outside.splitlines():
        if re.match(r" {4}(ntm|make) ", line):
            yield line.split("#")[0].strip()
        else:
            yield from (found for found in _INLINE.findall(line))


@pytest.mark.parametrize(("page", "line"), commands("ntm"), ids=lambda each: each)
def test_a_command_that_the_documents_show_is_understood(page: str, line: str) -> None:
    code, said = understood(line)

    assert code == 0, said


@pytest.mark.parametrize("line", ["ntm fly", "ntm up --wings", "ntm admin --server X user sing"])
def test_a_command_that_does_not_exist_is_not(line: str) -> None:
    """The negative twin."""
    assert understood(line)[0] == 2


def test_help_of_the_operators_commands_needs_no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NTM_SERVER", raising=False)
    lines = {" ".join(each) for each in leaves(typer.main.get_command(ADMIN), ("admin",))}

    said = {line: CliRunner().invoke(application("admin"), [*line.split(), "-h"]) for line in lines}

    assert len(lines) > 15
    assert {line: done.output for line, done in said.items() if done.exit_code != 0} == {}


def test_every_make_target_that_the_documents_show_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert {line.split()[1] for _, line in commands("make")} <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert [link for link in _LINK.findall(page.read_text()) if not leads(page, link)] == []


def test_a_link_to_nowhere_is_noticed() -> None:
    """The negative twin."""
    assert not leads(ROOT / "README.md", "docs/nowhere.md")
    assert not leads(ROOT / "README.md", "docs/paper.md#fig-9")
    assert leads(ROOT / "README.md", "docs/paper.md#hole-punching")


def leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:  # noqa: ANN401
    """The words that lead to each command below a group."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path
    else:
        for name, each in below.items():
            yield from leaves(each, (*path, name))


def understood(line: str) -> tuple[int, str]:
    """Have the program read a command line, and show its help instead of acting."""
    words = [word for word in shlex.split(_settled(line)) if word not in _PLACEHOLDERS][1:]
    if words[-1].startswith("-"):
        words.append("VALUE")  # of an option that is mentioned without one
    done = CliRunner().invoke(
        application(words[0]),
        [*words, "--help"],
        env={"NTM_SERVER": "/srv/ntm", "NTM_STATE": "/nonexistent"},
    )
    return done.exit_code, done.output


def _settled(line: str) -> str:
    """A line with its choices made: `[x]` is given, of `a|b` the first is taken."""
    line = line.replace("[", "").replace("]", "")
    return re.sub(r"(\S+?)\\?\|\S+", r"\1", line)


def leads(page: Path, link: str) -> bool:
    if "://" in link or link.startswith("mailto:"):
        return True
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return False
    return not anchor or target.suffix != ".md" or anchor in anchors(target.read_text())


def anchors(text: str) -> set[str]:
    """The headings as a link names them, and what is marked by hand."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    made = {re.sub(r"[^a-z0-9 _-]", "", heading).replace(" ", "-") for heading in plain}
    return made | set(re.findall(r'<a id="([^"]+)"', text))
