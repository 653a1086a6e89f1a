import os
import secrets
from pathlib import Path

import pytest

from ntmobile.agent.records import SavedAccount
from ntmobile.agent.state import open_state
from ntmobile.errors import Remedy, StateError
from ntmobile.vpn import Configuration, Network, attach
from ntmobile.vpn.model import VpnModel


async def never(configuration: Configuration) -> int:
    raise AssertionError("nothing is registered here")


def model(state: Path, answer: object, tun_fd: int | None = None) -> VpnModel:
    return VpnModel(
        open_state(state, secrets.SystemRandom()),
        secrets.SystemRandom(),
        tun_fd=tun_fd,
        protect=lambda descriptor: answer,
        configure=never,
        network=Network(()),
    )


@pytest.mark.parametrize("answer", [None, True])
def test_a_socket_that_the_system_protects_is_used(tmp_path: Path, answer: object) -> None:
    model(tmp_path, answer).protect(0)


def test_a_socket_that_the_system_does_not_protect_is_not(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="does not protect"):
        model(tmp_path, False).protect(0)


async def test_the_descriptor_that_was_given_is_closed_at_the_end(tmp_path: Path) -> None:
    given = os.open("/dev/null", os.O_RDWR)

    async with model(tmp_path, True, given):
        os.fstat(given)

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(given)


async def test_a_directory_that_is_no_nodes_state_is_said_to_be_none(tmp_path: Path) -> None:
    node = attach(None, state=tmp_path, protect=print, configure=never, network=None)

    with pytest.raises(Remedy, match="no node's state yet"):
        async with node:
            pass


async def test_without_a_network_a_node_says_so_at_once(tmp_path: Path) -> None:
    state = open_state(tmp_path, secrets.SystemRandom())
    account = SavedAccount(user="alice", name="phone", domain="ntm.example.org", enrolled=True)
    state.keep_account(account)
    protected: list[int] = []
    node = attach(None, state=tmp_path, protect=protected.append, configure=never, network=None)

    with pytest.raises(Remedy, match="no resolver is configured"):
        async with node:
            pass

    # Its UDP sockets, one a family where there are both.
    assert protected


def test_a_node_that_is_not_open_says_so(tmp_path: Path) -> None:
    node = attach(None, state=tmp_path, protect=print, configure=never, network=None)

    with pytest.raises(StateError, match="not open"):
        _ = node.fqdn
    node.network_changed(None)
