"""Source: paper, Table 1."""

import pytest

from ntmobile.errors import StateError
from ntmobile.keys.table import (
    TABLE_1,
    CommonKey,
    KeyAct,
    Keyring,
    Kmncn,
    Kntmdc,
    Ktmp,
    Ktun,
    Party,
)
from ntmobile.time import Instant

pytestmark = pytest.mark.paper("Table 1")

T0 = Instant(0)


def fresh(kind: type[CommonKey]) -> CommonKey:
    return kind(bytes(32), bytes(8), T0)


def test_the_table_has_the_papers_eight_keys() -> None:
    names = [kind.__name__ for kind in TABLE_1]

    assert names == ["Kntmdc", "Kdcns", "Kntmns", "Kdcdc", "Kdcrs", "Ktun", "Ktmp", "Kmncn"]


@pytest.mark.parametrize("kind", TABLE_1)
@pytest.mark.parametrize("party", Party)
def test_only_an_owner_may_own(kind: type[CommonKey], party: Party) -> None:
    keyring = Keyring(party)
    if party in kind.owners:
        assert keyring.own(fresh(kind), T0) in keyring
    else:
        with pytest.raises(StateError, match="Table 1"):
            keyring.own(fresh(kind), T0)


def test_the_relay_never_holds_ktmp_and_no_server_ever_kmncn() -> None:
    with pytest.raises(StateError):
        Keyring(Party.RS).carry(fresh(Ktmp), T0)
    for server in (Party.AS, Party.DC, Party.NS, Party.RS):
        for verb in (Keyring(server).create, Keyring(server).own, Keyring(server).carry):
            with pytest.raises(StateError):
                verb(fresh(Kmncn), T0)


def test_an_erased_key_is_gone_and_the_ring_says_so() -> None:
    keyring = Keyring(Party.DC)
    key = keyring.carry(keyring.create(fresh(Ktun), T0), T0)

    keyring.erase(key, T0)
    keyring.erase(key, T0)

    assert len(keyring) == 0
    with pytest.raises(StateError, match="erased"):
        _ = key.secret
    acts = []
    while (record := keyring.poll_record()) is not None:
        acts.append(record.act)
    assert acts == [KeyAct.CREATED, KeyAct.CARRIED, KeyAct.ERASED]


def test_a_key_never_shows_its_bytes() -> None:
    assert "00" * 16 not in repr(Kntmdc(bytes(32), b"\x01" * 8, T0))
