from ntmobile.sim.chart import Scale, chart
from ntmobile.sim.recorder import Arrow
from ntmobile.time import Instant

COLUMNS = {"laptop": "MN", "dc1": "DCmn", "dc2": "DCcn"}


def test_a_chart_has_a_column_for_each_participant_and_a_line_for_each_message() -> None:
    arrows = [
        arrow(0, 10, "Direction Request", "laptop", "dc1"),
        arrow(10, 20, "Node Information Request", "dc1", "dc2"),
        arrow(20, 45, "Route Direction", "dc2", "laptop"),
    ]

    drawn = chart(arrows, COLUMNS, Scale(Instant(0), 10))

    assert drawn == (
        "delays    MN                    DCmn                          DCcn\n"
        "     1     |- Direction Request ->|                             |\n"
        "     2     |                      |- Node Information Request ->|\n"
        "   4.5     |<----------------- Route Direction -----------------|\n"
    )


def test_the_other_way_of_transport_is_named() -> None:
    drawn = chart(
        [arrow(0, 60, "Key Sharing", "dc1", "dc2", "HTTPS")], COLUMNS, Scale(Instant(0), 10)
    )

    assert "- Key Sharing (HTTPS) ->|" in drawn


def test_a_message_of_somebody_without_a_column_is_left_out() -> None:
    drawn = chart([arrow(0, 1, "Login Request", "laptop", "as")], COLUMNS, Scale(Instant(0), 1))

    assert "Login" not in drawn


def arrow(
    sent: int, arrived: int, message: str, sender: str, receiver: str, over: str = "UDP"
) -> Arrow:
    return Arrow(Instant(sent), Instant(arrived), message, sender, receiver, over)
