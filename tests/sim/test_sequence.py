"""What participants saw, merged, is what happened: held against the simulator's own record."""

from datetime import UTC, datetime

import pytest

from ntmobile.proto.journal import Step
from ntmobile.proto.sequence import negotiation, standing
from ntmobile.proto.testimony import Carried, Seen, Witness, merge
from ntmobile.sim.figures import (
    CN,
    MN,
    Figure,
    figure_2,
    figure_3,
    figure_4,
    figure_5,
    figure_6,
    figure_7,
)

TUNNELS = [figure_5, figure_6, figure_7]
pytestmark = pytest.mark.paper("Fig. 2", "Fig. 3", "Fig. 5", "Fig. 6", "Fig. 7")


@pytest.mark.parametrize("build", TUNNELS, ids=lambda build: build.__name__)
def test_a_tunnel_that_all_tell_of_is_the_figure(build: "type[Figure]") -> None:
    figure = build()

    merged = merge([witness(figure, host, MN, CN) for host in figure.columns])

    assert [one for one in merged if one.lost] == []
    assert of_both(merged_messages(merged)) == of_both(signalling(figure))


@pytest.mark.parametrize("build", TUNNELS, ids=lambda build: build.__name__)
def test_what_mn_alone_saw_is_its_part_of_the_figure(build: "type[Figure]") -> None:
    figure = build()

    merged = merge([witness(figure, MN, MN, CN)])

    assert {one.sender for one in merged} | {one.receiver for one in merged} >= {"MN"}
    own = {line for line in signalling(figure) if "MN" in (line[0], line[2])}
    seen = {relayed(one) for one in merged_messages(merged)}
    assert {relayed(line) for line in own} <= seen


def test_a_login_and_registration_that_all_tell_of_are_figs_2_and_3() -> None:
    figure, hosts = figure_2(), (MN, "as.example.org", "dc.example.org")
    world = figure.world
    world.await_registration(world.nodes[MN])
    net = world.organisation("example.net")
    world.connect(world.nodes[MN], world.node("pc.bob", net, world.internet.home("cn home")))
    world.run_for(65)

    merged = merge([Witness(seen(standing(steps(figure, host), MN)), *who(host)) for host in hosts])

    told = list(dict.fromkeys(merged_messages(merged)))
    assert told == [
        ("node", "Nonce Request", "AS"),
        ("AS", "Nonce", "node"),
        ("node", "Login Request", "AS"),
        ("AS", "Key Distribution", "DC"),
        ("DC", "NTM ACK", "AS"),
        ("AS", "Login Response", "node"),
        ("node", "Registration Request", "DC"),
        ("DC", "Challenge", "node"),
        ("DC", "Registration Response", "node"),
        ("node", "UDP Keep Alive", "DC"),
        ("DC", "Keep Alive Answer", "node"),
    ]


@pytest.mark.paper("Fig. 4")
def test_a_registration_with_ns_that_all_tell_of_is_fig_4() -> None:
    figure = figure_4()

    told = [Witness(seen(standing(steps(figure, host), CN)), *who(host)) for host in figure.columns]

    drawn = [each for each in dict.fromkeys(merged_messages(merge(told))) if each[1] != "Challenge"]
    part = drawn[drawn.index(("node", "Registration Request", "DC")) :]
    assert [each for each in part if "UDP" not in each[1]] == [
        ("node", "Registration Request", "DC"),
        ("DC", "Key Sharing", "NS"),
        ("NS", "NTM ACK", "DC"),
        ("DC", "Notification Direction", "NS"),
        ("DC", "Registration Response", "node"),
        ("node", "Notification Registration", "NS"),
        ("NS", "NTM ACK", "node"),
        ("node", "TCP Keep Alive", "NS"),
    ]


def test_a_dc_without_the_as_tells_of_the_registration() -> None:
    figure = figure_3()

    chosen = [step.message for step in standing(steps(figure, "dc.example.org"), MN)]

    assert "Registration Response" in chosen
    assert chosen[-1] == "Keep Alive Answer"


def test_a_message_that_never_arrives_is_said_to_be_lost() -> None:
    """The negative twin: CN's tries vanish, so MN, who was asked too, never saw one."""
    figure = figure_6()
    told = [witness(figure, host, MN, CN) for host in figure.columns]
    deaf = [
        Witness(tuple(s for s in one.steps if s.message != "Tunnel Request"), one.own, one.domain)
        if one.own == MN
        else one
        for one in told
    ]

    assert {(one.sender, one.message) for one in merge(deaf) if one.lost} == {
        ("CN", "Tunnel Request")
    }


def witness(figure: Figure, host: str, *nodes: str) -> Witness:
    """What a host would tell of the tunnel between the nodes; an RS knows only its number."""
    number = next(
        step.detail for step in steps(figure, MN)[::-1] if step.message == "Direction Request"
    )
    names = (number,) if host.startswith("rs.") else nodes
    return Witness(seen(negotiation(steps(figure, host), *names)), *who(host))


def who(host: str) -> tuple[str, str]:
    """Own FQDN and domain."""
    return (host, "") if host in (MN, CN) else ("", host.split(".", 1)[1])


def steps(figure: Figure, host: str) -> list[Step]:
    return [step for at, step in figure.world.recorder.steps if at == host]


def seen(steps: list[Step]) -> tuple[Seen, ...]:
    return tuple(
        Seen(
            datetime.fromtimestamp(step.at / 1e9, UTC).isoformat(timespec="microseconds"),
            step.message,
            step.here,
            step.there,
            step.sent,
            step.detail,
            step.names,
        )
        for step in steps
    )


def merged_messages(merged: list[Carried]) -> list[tuple[str, str, str]]:
    return [(one.sender, one.message, one.receiver) for one in merged]


def signalling(figure: Figure) -> list[tuple[str, str, str]]:
    """Without the capsules, which belong to the tunnel and not to its set-up."""
    own = [a for a in figure.arrows if a.over != "capsule"]
    names = figure.columns
    return [
        (names[a.sender], a.message, names[a.receiver])
        for a in own
        if a.sender in names and a.receiver in names
    ]


def of_both(messages: list[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Messages as a set; who looked up what in the DNS is the DC's own affair."""
    return {relayed(each) for each in messages if not each[1].startswith("NS ")}


def relayed(message: tuple[str, str, str]) -> tuple[str, str, str]:
    """What RS passes on comes from it, though MN or CN wrote it."""
    _, name, receiver = message
    return ("RS", name, receiver) if name in ("Tunnel Request", "Tunnel Response") else message
