"""Everything in docs/paper.md has code and a test, and the documents that say so are current."""

from dataclasses import replace

import pytest
from tests.paper.code import citations_of, handlers, makers, mentions
from tests.paper.marks import citing, proving
from tests.paper.page import ROOMS, Kind, items, named, of_kind
from tests.paper.report import KNOWN_GAPS, PAGE, complaints, gaps_of, page

from ntmobile.keys.table import TABLE_1


def test_nothing_of_the_paper_is_without_code_or_without_a_test() -> None:
    assert complaints() == []


def test_the_page_that_says_so_is_current() -> None:
    assert page() == PAGE.read_text(), "run scripts/traceability"


def test_the_keys_of_the_page_are_those_of_the_code_with_their_creators_and_owners() -> None:
    table = {
        kind.__name__: {
            (str(creator), str(owner)) for creator in kind.creator for owner in kind.owners
        }
        for kind in TABLE_1
    }

    assert {item.name: set(item.ways) for item in of_kind(Kind.KEY)} == table


def test_every_message_is_in_a_figure_that_the_page_has() -> None:
    figures = {item.name for item in of_kind(Kind.FIGURE)}

    assert {figure for item in of_kind(Kind.MESSAGE) for figure in item.figures} <= figures


def test_all_names_and_anchors_differ() -> None:
    assert len({item.name for item in items()}) == len(items())
    assert len({item.anchor for item in items()}) == len(items())


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("Source: paper, Fig. 6.", ["Fig. 6"]),
        ("Source: paper, Figs. 2, 5 and 7 (the TLS legs).", ["Fig. 2", "Fig. 5", "Fig. 7"]),
        ("Source: paper,\n    Figs. 2 to 4.", ["Fig. 2", "Fig. 3", "Fig. 4"]),
        ("paper, Notification Direction", ["Notification Direction"]),
        ("Source: paper, Table 1; paper, Ktmp", ["Table 1", "Ktmp"]),
        ("paper, node authentication", ["Node authentication"]),
        ("the paper, and how many; a paper of Fig. 6", []),
        ("paper, Fig. 9", ["Fig. 9"]),
    ],
)
def test_a_citation_is_read_as_a_person_reads_it(text: str, cited: list[str]) -> None:
    assert [item for item, _ in citations_of(text)] == cited


def test_makers_and_handlers_are_found_in_the_code_and_not_where_a_name_is_only_imported() -> None:
    made = [place.symbol for place in makers("KeyDistribution", ROOMS["AS"])]
    handled = [place.symbol for place in handlers("KeyDistribution", ROOMS["DC"])]

    assert made == ["Account._distribute"]
    assert handled == ["Coordinator.handle_request"]
    assert makers("KeyDistribution", ROOMS["DC"]) == handlers("KeyDistribution", "node") == ()
    assert mentions("Ktmp", ROOMS["RS"]) == mentions("Kmncn", ROOMS["DC"]) == ()


def test_a_message_that_nothing_makes_is_a_gap() -> None:
    """The negative twin: were RS said to send Key Distribution, the gap would be told."""
    other_way = replace(named("Key Distribution"), ways=(("RS", "node"),))

    assert list(gaps_of(other_way)) == [
        "no machine in proto/relay makes it",
        "no machine in proto/node handles it",
    ]


def test_what_is_not_built_is_a_gap_and_not_passed_over() -> None:
    for name in KNOWN_GAPS:
        assert list(gaps_of(named(name))), name


def test_a_module_mark_cites_and_only_a_mark_of_its_own_promises_to_fail() -> None:
    assert any(test.path.endswith("test_fig_7.py") for test in citing("Fig. 7"))
    assert all("Hole Punching" in test.own for test in proving("Hole Punching"))


def test_every_departure_names_a_place_of_the_paper_what_we_do_and_why() -> None:
    rows = departures()

    assert len(rows) > 20
    assert [row for row in rows if len(row) != 4 or not all(row)] == []
    assert unknown_places(rows) == []


def test_a_departure_from_what_the_paper_does_not_have_is_noticed() -> None:
    """The negative twin."""
    assert unknown_places([["Fig. 6, Fig. 9", "a", "b", "c"]]) == ["Fig. 9"]


def departures() -> list[list[str]]:
    """The rows of docs/deviations.md, each cell stripped."""
    lines = (PAGE.parent / "deviations.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ")][1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def unknown_places(rows: list[list[str]]) -> list[str]:
    known = {item.name for item in items()}
    return [name for row in rows for name in row[0].split(", ") if name not in known]
