"""What of the paper the code cites, and which machine makes and handles each message.

A docstring or comment cites by `paper, Fig. 6`, `paper, Figs. 2 and 5 to 7`, `paper, Table 1`,
`paper, Push` or `paper, Tunnel Request`. Who makes and who handles a message is not claimed but
found: where its class is called, and where it is matched.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from tests.paper.page import ROOT, Kind, items

import ntmobile.wire
from ntmobile.proto.journal import paper_name
from ntmobile.wire.message import Message

SOURCE = ROOT / "src" / "ntmobile"
PROTO = SOURCE / "proto"
DOCUMENTS = ("protocol.md", "deviations.md", "glossary.md", "node.md", "operating.md")
_FIGURES = re.compile(
    r"\bpaper,\s+Figs?\.\s+(?P<list>\d(?:(?:,\s+|\s+and\s+|\s+to\s+|,\s+and\s+)(?:Fig\.\s+)?\d)*)"
)
_RANGE = re.compile(r"(\d)\s+to\s+(\d)")


@dataclass(frozen=True)
class Place:
    """A function or class in a file, or the file as such."""

    path: str
    """From the project's root."""
    symbol: str = ""


@dataclass(frozen=True)
class Citation:
    """One mention of an item."""

    item: str
    place: Place


@cache
def wire_types() -> dict[str, type[Message]]:
    """Return every message type by the paper's name of it."""
    modules = [
        import_module(f"ntmobile.wire.{each.name}") for each in iter_modules(ntmobile.wire.__path__)
    ]
    kinds = (value for module in modules for value in vars(module).values())
    return {
        paper_name(kind): kind
        for kind in kinds
        if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
    }


def citations_of(text: str) -> Iterator[tuple[str, int]]:
    """Give every item a text cites, with the offset; what it cites must not exist, too."""
    for found in _FIGURES.finditer(text):
        numbers = set(map(int, re.findall(r"\d", found["list"])))
        for first, last in _RANGE.findall(found["list"]):
            numbers |= set(range(int(first), int(last) + 1))
        for number in sorted(numbers):
            yield f"Fig. {number}", found.start()
    for found in _names().finditer(text):
        yield _canonical()[" ".join(found[1].lower().split())], found.start()


@cache
def _canonical() -> dict[str, str]:
    names = (item.name for item in items() if item.kind is not Kind.FIGURE)
    return {name.lower(): name for name in names}


@cache
def _names() -> re.Pattern[str]:
    longest_first = sorted(_canonical(), key=len, reverse=True)
    spaced = (r"\s+".join(map(re.escape, name.split())) for name in longest_first)
    return re.compile(rf"\bpaper,\s+({'|'.join(spaced)})\b", re.IGNORECASE)


@cache
def citations() -> tuple[Citation, ...]:
    """Return every citation in the code, each once a place, sorted."""
    found: dict[Citation, None] = {}
    for path in sorted([*SOURCE.rglob("*.py"), *(ROOT / "core").rglob("*.rs")]):
        text = path.read_text()
        symbols = _symbols(text) if path.suffix == ".py" else []
        for item, offset in citations_of(text):
            line = text.count("\n", 0, offset) + 1
            found[Citation(item, Place(_relative(path), _innermost(symbols, line)))] = None
    return tuple(found)


def unknown_citations() -> list[str]:
    """Return citations, in code and documents, of figures that the paper does not have."""
    known = {item.name for item in items()} | {"Fig. 1", "Fig. 8"}
    documents = [
        Citation(item, Place(f"docs/{name}"))
        for name in DOCUMENTS
        for item, _ in citations_of((ROOT / "docs" / name).read_text())
    ]
    return [
        f"{each.place.path}: {each.item}"
        for each in (*citations(), *documents)
        if each.item not in known
    ]


@cache
def makers(name: str, room: str) -> tuple[Place, ...]:
    """Return where machines of a room make values of the class of that name."""
    return tuple(_uses(room, name, _made))


@cache
def handlers(name: str, room: str) -> tuple[Place, ...]:
    """Return where machines of a room match or test for the class of that name."""
    return tuple(_uses(room, name, _handled))


@cache
def mentions(name: str, room: str) -> tuple[Place, ...]:
    """Return where code of a room uses the class of that name as a value."""
    return tuple(_uses(room, name, _mentioned))


def _uses(room: str, name: str, uses: "type[ast.NodeVisitor]") -> Iterator[Place]:
    seen: dict[Place, None] = {}
    for path in sorted((PROTO / room).glob("*.py")):
        text = path.read_text()
        if name not in text:
            continue
        finder = uses(name)  # type: ignore[call-arg]
        finder.visit(_parsed(path))
        symbols = _symbols(text)
        for line in finder.lines:  # type: ignore[attr-defined]
            symbol = _innermost(symbols, line)
            if symbol:
                seen[Place(_relative(path), symbol)] = None
    yield from seen


class _made(ast.NodeVisitor):
    """Lines where a class is called."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[int] = []

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == self.name:
            self.lines.append(node.lineno)
        self.generic_visit(node)


class _handled(ast.NodeVisitor):
    """Lines where a class is matched or tested for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[int] = []

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        if isinstance(node.cls, ast.Name) and node.cls.id == self.name:
            self.lines.append(node.lineno)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            tested = ast.walk(node.args[1])
            if any(isinstance(each, ast.Name) and each.id == self.name for each in tested):
                self.lines.append(node.lineno)
        self.generic_visit(node)


class _mentioned(ast.NodeVisitor):
    """Lines where a class is used as a value, annotations apart."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: list[int] = []

    def visit_Name(self, node: ast.Name) -> None:
        if node.id == self.name:
            self.lines.append(node.lineno)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        pass

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for statement in node.body:
            self.visit(statement)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def _symbols(text: str) -> list[tuple[int, int, str]]:
    """First line, last line and qualified name of every class and function."""
    found: list[tuple[int, int, str]] = []

    def walk(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{prefix}{child.name}"
                found.append((child.lineno, child.end_lineno or child.lineno, name))
                walk(child, f"{name}.")
            else:
                walk(child, prefix)

    walk(ast.parse(text), "")
    return found


def _innermost(symbols: list[tuple[int, int, str]], line: int) -> str:
    around = [(first, name) for first, last, name in symbols if first <= line <= last]
    return max(around)[1] if around else ""


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))
