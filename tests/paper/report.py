"""Holds code and tests against docs/paper.md: what stands for each item, and what is missing."""

from collections.abc import Iterable, Iterator

from tests.paper.code import (
    Place,
    citations,
    handlers,
    makers,
    mentions,
    unknown_citations,
    wire_types,
)
from tests.paper.marks import citing, proving, tests
from tests.paper.page import ROOMS, ROOT, Item, Kind, items, of_kind

PAGE = ROOT / "docs" / "traceability.md"

CLASSES = {"NS Query": "FindCoordinator"}
"""Messages of others that our machines ask for by a request of this class."""

OUTSIDE = {"Device Token Request", "Capsule"}
"""Messages that no Python machine of ours makes: cited by what stands for them."""

UNPROVEN = {
    "Device Token Request": "the phone's system speaks it; the token is handed to us",
}
"""Messages that a mutation cannot drop, and why."""

KNOWN_GAPS: set[str] = set()
"""Items that are not built yet. The list only shrinks: an item that has no gap must leave it."""


def gaps() -> dict[str, list[str]]:
    """Return what is missing of each item; an item without gaps is not in it."""
    found = {item.name: list(gaps_of(item)) for item in items()}
    return {name: missing for name, missing in found.items() if missing}


def complaints() -> list[str]:
    """Return everything a person must mend, as sentences."""
    missing = gaps()
    known = {item.name for item in items()}
    return [
        *(f"{name}: {gap}" for name, found in missing.items() for gap in _unknown(name, found)),
        *(f"{name} has no gap any more: take it out of KNOWN_GAPS" for name in _filled(missing)),
        *(f"{each} is not in docs/paper.md" for each in unknown_citations()),
        *(
            f"{test.id}: {item} is not in docs/paper.md"
            for test in tests()
            for item in test.items
            if item not in known
        ),
    ]


def gaps_of(item: Item) -> Iterator[str]:
    """Give what an item lacks."""
    match item.kind:
        case Kind.MESSAGE:
            yield from _gaps_of_message(item)
        case Kind.KEY:
            yield from _gaps_of_key(item)
        case Kind.SECTION | Kind.FIGURE:
            if not _cited(item.name):
                yield f"no docstring cites `paper, {item.name}`"
    if not citing(item.name):
        yield "no test cites it"
    elif _is_to_be_proven(item) and not proving(item.name):
        yield "no quick test bears its name in a mark of its own"


def _is_to_be_proven(item: Item) -> bool:
    return item.kind in (Kind.MESSAGE, Kind.KEY) and item.name not in UNPROVEN


def _gaps_of_message(item: Item) -> Iterator[str]:
    if item.name in OUTSIDE:
        if not _cited(item.name):
            yield f"no docstring cites `paper, {item.name}`"
        return
    kind = CLASSES.get(item.name)
    if kind is None:
        wire = wire_types().get(item.name)
        if wire is None:
            yield "no wire type bears its name"
            return
        kind = wire.__name__
        if not _cites_a_figure(item, wire.__module__, kind):
            yield f"{wire.__module__}.{kind} cites none of {', '.join(item.figures)}"
    for sender, receiver in item.ways:
        if sender in ROOMS and not makers(kind, ROOMS[sender]):
            yield f"no machine in proto/{ROOMS[sender]} makes it"
        if receiver in ROOMS and not handlers(kind, ROOMS[receiver]):
            yield f"no machine in proto/{ROOMS[receiver]} handles it"


def _gaps_of_key(item: Item) -> Iterator[str]:
    table = [each for each in citations() if each.place.path == "src/ntmobile/keys/table.py"]
    if ("Table 1", item.name) not in [(each.item, each.place.symbol) for each in table]:
        yield "no class in keys/table.py bears its name and cites Table 1"
    for party in sorted({party for way in item.ways for party in way}):
        if not mentions(item.name, ROOMS[party]):
            yield f"nothing in proto/{ROOMS[party]} makes or holds it"


def _cites_a_figure(item: Item, module: str, kind: str) -> bool:
    """Whether the class, or the module that holds it, cites a figure the message is in."""
    path = f"src/{module.replace('.', '/')}.py"
    return any(
        each.item in item.figures and each.place.path == path and each.place.symbol in ("", kind)
        for each in citations()
    )


def _cited(name: str) -> list[Place]:
    return [each.place for each in citations() if each.item == name]


def _unknown(name: str, found: list[str]) -> list[str]:
    return [] if name in KNOWN_GAPS else found


def _filled(missing: dict[str, list[str]]) -> list[str]:
    return sorted(KNOWN_GAPS - missing.keys())


HEAD = """# From the paper to the code and its tests

`scripts/traceability` wrote this page, and a test holds it against the code. Each section, figure,
message and key of [paper.md](paper.md) is here with the code that cites it and the tests that bear
its mark. Which machine makes and which handles a message is not claimed but found in the code. A
test that bears the name of a message or a key fails without it: [mutation.md](mutation.md) records
how.

"""


def page() -> str:
    """Return docs/traceability.md as it must be."""
    return HEAD + "\n".join((_open_gaps(), *(_part(kind) for kind in Kind)))


def _open_gaps() -> str:
    missing = gaps()
    if not missing:
        return "Gaps: none.\n"
    rows = "".join(f"- {name}: {'; '.join(found)}\n" for name, found in missing.items())
    return f"## Gaps\n{rows}"


def _part(kind: Kind) -> str:
    title = {
        Kind.SECTION: "Sections",
        Kind.FIGURE: "Figures",
        Kind.MESSAGE: "Messages",
        Kind.KEY: "Keys",
    }[kind]
    return f"## {title}\n" + "\n".join(_entry(item) for item in of_kind(kind))


def _entry(item: Item) -> str:
    lines = [f"### [{item.name}](paper.md#{item.anchor})"]
    lines += [line for label, places in _roles(item) for line in _listed(label, places)]
    found = citing(item.name)
    for path in dict.fromkeys(test.path for test in found):
        own = [test.name for test in found if test.path == path and item.name in test.own]
        lines.append(f"- {_link(path)}: {_some(own) if own else 'all'}")
    return "\n".join(lines) + "\n"


def _roles(item: Item) -> Iterator[tuple[str, Iterable[Place]]]:
    if item.kind is Kind.KEY:
        yield "type", [Place("src/ntmobile/keys/table.py", item.name)]
        for party in sorted({party for way in item.ways for party in way}):
            yield f"at the {party}", mentions(item.name, ROOMS[party])
        return
    kind = CLASSES.get(item.name)
    if item.name in wire_types():
        wire = wire_types()[item.name]
        kind = wire.__name__
        yield "type", [Place(f"src/{wire.__module__.replace('.', '/')}.py", kind)]
    if kind is not None:
        for sender in _parties(item, 0):
            yield f"made by the {sender}", makers(kind, ROOMS[sender])
        for receiver in _parties(item, 1):
            yield f"handled by the {receiver}", handlers(kind, ROOMS[receiver])
    yield "cited by", _cited(item.name)


def _parties(item: Item, end: int) -> list[str]:
    return sorted({way[end] for way in item.ways} & ROOMS.keys())


def _listed(label: str, places: Iterable[Place]) -> Iterator[str]:
    """One line a file, so that two changes meet in one line seldom."""
    symbols: dict[str, list[str]] = {}
    for place in places:
        symbols.setdefault(place.path, []).append(place.symbol)
    for path, names in symbols.items():
        named = ", ".join(name for name in names if name)
        yield f"- {label} {_link(path)}" + (f": {named}" if named else "")


def _link(path: str) -> str:
    short = path.removeprefix("src/ntmobile/")
    return f"[{short}](../{path})"


def _some(names: list[str]) -> str:
    return ", ".join(f"`{name.removeprefix('test_')}`" for name in names)
