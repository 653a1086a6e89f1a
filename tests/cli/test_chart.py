from hypothesis import given, settings
from hypothesis import strategies as st

from ntmobile.cli.chart import Arrow, draw, participants

FIGURE_6 = [
    Arrow(0.0, "MN", "DCmn", "Direction Request"),
    Arrow(20.0, "DCmn", "MN", "Route Direction"),
    Arrow(31.5, "CN", "MN", "Tunnel Request"),
    Arrow(31.7, "MN", "CN", "Tunnel Response"),
]

names = st.sampled_from(["MN", "DCmn", "CN", "RS"])
arrows = st.lists(
    st.builds(
        Arrow,
        st.floats(0, 99_999.0),
        names,
        names,
        st.text(st.characters(categories=["L", "N"]), max_size=60),
    ).filter(lambda arrow: arrow.sender != arrow.receiver),
    max_size=12,
)


def test_a_chart_reads_like_the_papers_figures() -> None:
    assert draw(FIGURE_6, first="MN") == [
        "           MN                  DCmn         CN",
        "            |                    |           |",
        "            | Direction Request  |           |",
        "     0.0 ms |------------------->|           |",
        "            |  Route Direction   |           |",
        "    20.0 ms |<-------------------|           |",
        "            |         Tunnel Request         |",
        "    31.5 ms |<-------------------------------|",
        "            |        Tunnel Response         |",
        "    31.7 ms |------------------------------->|",
    ]


def test_participants_stand_in_the_order_in_which_they_speak() -> None:
    assert participants(FIGURE_6, first="MN") == ["MN", "DCmn", "CN"]


def test_a_chart_of_nothing_still_names_who_looked() -> None:
    assert [line.strip() for line in draw([], first="MN")] == ["MN", "|"]


@settings(deadline=None)
@given(arrows)
def test_every_label_and_arrow_is_in_the_chart_whole(drawn: list[Arrow]) -> None:
    lines = draw(drawn, first="MN")

    for number, arrow in enumerate(drawn):
        label, shaft = lines[2 + 2 * number], lines[3 + 2 * number]
        assert arrow.label in label
        assert shaft.count(">") + shaft.count("<") == 1
        assert f"{arrow.ms:.1f} ms" in shaft
