"""Settings files: TOML in, frozen dataclasses out, and errors that name the line.

A settings class is a frozen dataclass whose fields are made by `setting`, `required`, `table`,
`optional_table` and `tables`; a field's docstring carries unit, default and reason, its `Kind`
says what is allowed. `parse` refuses what no field asks for. `render` writes what `parse` reads.
"""

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from typing import Any, Generic, TypeVar, cast

from ntmobile.errors import Remedy

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
Path = tuple[str | int, ...]
"""Where a value is: ("server", "domain"), ("rule", 0, "action")."""


class ConfigError(Remedy):
    """A settings file is wrong; names file, line, key and what is allowed."""

    def __init__(self, file: str, line: int, key: str, problem: str, allowed: str) -> None:
        """Line counts from 1."""
        super().__init__(
            f"{file}, line {line}: {key}: {problem}",
            remedy=f"correct that line; allowed: {allowed}",
        )
        self.file = file
        self.line = line
        self.key = key
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """What one setting may be."""

    allowed: str
    """For people, as the end of "allowed: ..."."""
    parse: Callable[[Any], T]
    """From the TOML value; raises ValueError when it is not allowed."""
    render: Callable[[T], object] = lambda value: value
    """Back to a TOML value."""


def setting(kind: Kind[T], default: T) -> T:
    """A field that may be left out."""
    return field(default=default, metadata={"kind": kind})


def required(kind: Kind[T]) -> T:
    """A field that must be there."""
    return cast("T", field(metadata={"kind": kind}))


def table(of: type[T]) -> T:
    """A sub-table; left out, all its defaults hold."""
    return field(default_factory=of, metadata={"table": of})


def optional_table(of: type[T]) -> T | None:
    """A sub-table whose absence means something."""
    return cast("T | None", field(default=None, metadata={"table": of}))


def tables(of: type[T]) -> tuple[T, ...]:
    """An array of tables, in the order of the file."""
    return cast("tuple[T, ...]", field(default=(), metadata={"tables": of}))


def parse(text: str, file: str, of: type[T]) -> T:
    """Parse a whole settings file; raises ConfigError."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(text, file, error) from None
    return _Reader(text, file).read(values, of, ())


def render(settings: object) -> str:
    """Return the TOML text of a settings object: `parse` of it gives an equal one."""
    return "\n".join(_render(settings, ())).strip() + "\n"


def error_at(text: str, file: str, path: Path, problem: str, allowed: str) -> ConfigError:
    """Return the error for a value, with its line, or that of the table it belongs in."""
    lines = lines_of(text)
    known = next((path[:n] for n in range(len(path), -1, -1) if path[:n] in lines), ())
    return ConfigError(file, lines.get(known, 1), _dotted(path), problem, allowed)


def lines_of(text: str) -> dict[Path, int]:
    """Return the line, from 1, at which each key of a valid TOML text stands."""
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    base: Path = ()
    for line, statement in _statements(text):
        parsed = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            base = _header(parsed, counts)
            found[base] = line
        else:
            for path in _paths(parsed, base):
                found[path] = line
    return found


class _Reader:
    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file

    def read(self, values: object, of: type[T], path: Path) -> T:
        if not isinstance(values, Mapping):
            raise self._error(path, f"{_shown(values)} is no table", f"[{_dotted(path)}]")
        known: Mapping[str, Field[Any]] = {_key(f): f for f in fields(cast("Any", of))}
        for key in values:
            if key not in known:
                raise self._error((*path, key), "no such setting", ", ".join(known))
        return of(**{f.name: self._value(values, f, path) for f in known.values()})

    def _value(self, values: Mapping[str, Any], f: "Field[Any]", path: Path) -> object:
        here = (*path, _key(f))
        if _key(f) not in values:
            return self._default(f, here)
        value = values[_key(f)]
        if "table" in f.metadata:
            return self.read(value, f.metadata["table"], here)
        if "tables" in f.metadata:
            return self._tables(value, f.metadata["tables"], here)
        kind: Kind[Any] = f.metadata["kind"]
        try:
            return kind.parse(value)
        except (ValueError, TypeError):
            raise self._error(here, f"{_shown(value)} is not allowed", kind.allowed) from None

    def _tables(self, value: object, of: type[T], here: Path) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise self._error(here, f"{_shown(value)} is no list of tables", f"[[{_dotted(here)}]]")
        return tuple(self.read(each, of, (*here, n)) for n, each in enumerate(value))

    def _default(self, f: "Field[Any]", here: Path) -> object:
        if f.default is not MISSING:
            return f.default
        if "table" in f.metadata:
            return self.read({}, f.metadata["table"], here)
        raise self._error(here, "is missing", f.metadata["kind"].allowed)

    def _error(self, path: Path, problem: str, allowed: str) -> ConfigError:
        return error_at(self._text, self._file, path, problem, allowed)


def _key(f: "Field[Any]") -> str:
    """The TOML key of a field; `as_` stands for a key that is a Python word."""
    return f.name.rstrip("_")


def _syntax_error(text: str, file: str, error: tomllib.TOMLDecodeError) -> ConfigError:
    problem, _, place = str(error).rpartition(" (at ")
    digits = "".join(c for c in place.partition(",")[0] if c.isdigit())
    line = int(digits) if digits else max(1, text.count("\n"))
    return ConfigError(file, line, "not TOML", problem or str(error), 'lines like key = "value"')


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Split into headers and assignments: lines are added until the parser is content."""
    pending: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not pending:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start = number
        pending.append(line)
        statement = "".join(pending)
        try:
            tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        yield start, statement
        pending = []


def _header(parsed: Mapping[str, Any], counts: dict[Path, int]) -> Path:
    base: Path = ()
    value: Any = parsed
    while value:
        (key, value), *_ = value.items()
        base = (*base, key)
        if isinstance(value, list):
            counts[base] = counts.get(base, -1) + 1
            value = value[0]
        if base in counts:
            base = (*base, counts[base])
    return base


def _paths(value: object, base: Path) -> Iterator[Path]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield (*base, key)
            yield from _paths(inner, (*base, key))


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _shown(value: object) -> str:
    try:
        return _toml(value)
    except TypeError:
        return str(value)


def _render(settings: object, path: Path) -> Iterator[str]:
    later: list[tuple[str, object]] = []
    for f in fields(cast("Any", settings)):
        value = getattr(settings, f.name)
        if "kind" in f.metadata:
            yield f"{_key(f)} = {_toml(f.metadata['kind'].render(value))}"
        elif "tables" in f.metadata:
            later += [(f"[[{_dotted((*path, _key(f)))}]]", each) for each in value]
        elif value is not None:
            later.append((f"[{_dotted((*path, _key(f)))}]", value))
    for header, value in later:
        inner = list(_render(value, (*path, header.strip("[]").rpartition(".")[2])))
        if inner:
            yield from ("", header, *inner)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    raise TypeError(f"{type(value)} is not written")


def text(allowed: str = "text", *, empty: bool = True) -> Kind[str]:
    """Any one-line string."""

    def parse_text(value: object) -> str:
        if not isinstance(value, str) or not value.isprintable() or not (value or empty):
            raise ValueError
        return value

    return Kind(allowed, parse_text)


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


BOOLEAN = Kind("true, false", _boolean)


def integer(lowest: int, highest: int, unit: str = "") -> Kind[int]:
    """A whole number within bounds."""

    def parse_integer(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError
        if not lowest <= value <= highest:
            raise ValueError
        return value

    return Kind(f"{lowest} to {highest} {unit}".strip(), parse_integer)


PORT = integer(1, 0xFFFF)


def one_of(choices: type[E]) -> Kind[E]:
    """One word of a few."""
    return Kind(", ".join(f'"{each}"' for each in choices), choices, str)


def list_of(kind: Kind[T]) -> Kind[tuple[T, ...]]:
    """A list, each item of that kind, none twice."""

    def parse_list(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise ValueError
        items = tuple(kind.parse(each) for each in value)
        if len(set(items)) != len(items):
            raise ValueError
        return items

    return Kind(f"a list of {kind.allowed}", parse_list, lambda v: [kind.render(e) for e in v])


def _address(value: object) -> IPv4Address | IPv6Address:
    if not isinstance(value, str):
        raise ValueError
    address = ip_address(value)
    if address.is_multicast or address.is_unspecified or getattr(address, "scope_id", None):
        raise ValueError
    return address


ADDRESS = Kind('IP addresses like "203.0.113.10" or "2001:db8::10"', _address, str)


def _network(value: object) -> IPv4Network:
    if not isinstance(value, str):
        raise ValueError
    network = IPv4Network(value)
    if network.prefixlen > 28:
        raise ValueError
    return network


IPV4_NETWORK = Kind('an IPv4 prefix of at most 28 bits like "100.64.0.0/10"', _network, str)

LONGEST_DOMAIN = 125
"""So that node.user.domain, with labels of 63, is at most the 253 of a name."""
LABEL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


def is_label(value: str) -> bool:
    """Whether value is one label of a host name, in lower case (RFC 1123)."""
    return (
        0 < len(value) < 64 and set(value) <= LABEL_CHARACTERS and "-" not in value[0] + value[-1]
    )


def domain_name(value: object) -> str:
    """Return the name in lower case without a final dot; raises ValueError when it is none."""
    if not isinstance(value, str):
        raise ValueError("a domain name is text")
    name = value.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > LONGEST_DOMAIN or len(labels) < 2 or not all(map(is_label, labels)):
        raise ValueError(f"{value!r} is no domain name")
    return name


DOMAIN = Kind('a domain name like "ntm.example.org"', domain_name)
