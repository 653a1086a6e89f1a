"""Node authentication. Source: paper, Fig. 2."""

import pytest

from ntmobile.keys.table import KeyAct
from ntmobile.proto.node.events import LoggedIn, LoginFailed, Registered
from ntmobile.sim.figures import figure_2
from ntmobile.sim.world import World

pytestmark = pytest.mark.paper("Fig. 2")


@pytest.mark.paper("Login Request", "Key Distribution", "NTM ACK", "Login Response")
def test_the_messages_are_those_of_the_figure_in_its_order() -> None:
    figure = figure_2()
    print(figure.draw())

    of_the_paper = [line for line in figure.messages if "Nonce" not in line[1]]

    assert of_the_paper == [
        ("node", "Login Request", "AS"),
        ("AS", "Key Distribution", "DC"),
        ("DC", "NTM ACK", "AS"),
        ("AS", "Login Response", "node"),
    ]


@pytest.mark.paper("Key Distribution")
def test_kntmdc_is_created_by_as_which_erases_it_and_owned_by_node_and_dc() -> None:
    figure = figure_2()

    lines = figure.world.recorder.of_key("Kntmdc")

    acts = [(line.host.split(".")[0], line.record.act) for line in lines]
    assert acts == [
        ("as", KeyAct.CREATED),
        ("as", KeyAct.CARRIED),
        ("dc", KeyAct.OWNED),
        ("as", KeyAct.ERASED),
        ("laptop", KeyAct.OWNED),
    ]


def test_a_wrong_password_gives_no_key_to_anyone() -> None:
    world = World()
    node = world.stranger("laptop.alice", world.organisation())

    node.log_in("wrong")
    world.run_for(10)

    (failed,) = node.events_of(LoginFailed)
    assert failed.code == "credentials"
    assert failed.retry_at is None
    assert world.recorder.keys == []


def test_a_node_whose_as_is_down_logs_in_by_itself_when_it_is_back() -> None:
    world = World()
    org = world.organisation()
    node = world.node("laptop.alice", org)
    org.account.kill()

    again = world.restart(node)
    world.run_for(30)
    assert again.events_of(LoginFailed)
    org.restart_account()

    world.await_login(again, limit_s=90)
    assert again.events_of(LoggedIn)


def test_a_revoked_node_is_refused_and_does_not_try_for_ever() -> None:
    world = World()
    org = world.organisation()
    node = world.node("laptop.alice", org)
    org.revoke(node.fqdn)
    world.run_for(1)

    again = world.restart(node)
    world.run_for(60)

    assert [event.code for event in again.events_of(LoginFailed)] == ["revoked"]
    assert not again.events_of(Registered)


@pytest.mark.parametrize("broken", ["dc.example.org", "as.example.org"])
def test_a_login_that_a_server_cannot_serve_fails_and_says_so(broken: str) -> None:
    world = World()
    org = world.organisation()
    node = world.stranger("laptop.alice", org)
    (org.coordinator if broken.startswith("dc") else org.account).kill()

    node.log_in("a long password")
    world.run_for(60)

    assert node.events_of(LoginFailed)
    assert not node.events_of(LoggedIn)
