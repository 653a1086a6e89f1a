"""Source: paper, Node authentication. Ours: docs/protocol.md section 4, whom a node believes."""

from functools import cache
from ipaddress import IPv4Address, IPv6Address

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import example, given
from tests.keys.authorities import authority, der_of, ec_key
from tests.proto.parts import ALICE, BOB, CAROL, T0, after, identity

from ntmobile.keys.identity import succeed
from ntmobile.keys.node_certificates import issue
from ntmobile.proto.node.settings import Pin
from ntmobile.proto.node.trust import AGAIN_NS, Trust, TrustSettings, Unknown, Verdict
from ntmobile.time import SECOND, Instant
from ntmobile.wire.certificate import fold
from ntmobile.wire.identity import Authentication, PublicIdentity
from ntmobile.wire.registration import Reason

ORG, NET = "example.org", "example.net"
EPOCH_S = 1_800_000_000
CERTIFICATE, DEVICE_KEY = Authentication.CERTIFICATE, Authentication.DEVICE_KEY
OWN = {ORG: (der_of(authority(ORG)),)}
NETS = (der_of(authority(NET)),)
HERE = IPv4Address("100.64.0.16"), IPv6Address("fd00::1")


def wall(now: Instant) -> float:
    return EPOCH_S + (now - T0) / SECOND


def trust(**settings: object) -> Trust:
    return Trust(ORG, TrustSettings(**{"authorities": OWN, **settings}), (), wall)  # type: ignore[arg-type]


@cache
def shown(fqdn: str, ca: int = 1, device: str | None = None) -> PublicIdentity:
    """What a peer shows: its own keys with a certificate of its domain's CA, unless told."""
    public = identity(device or fqdn).public
    der = issue(authority(fqdn.split(".", 2)[2], ca), fqdn, public.device, serial=1, now_s=EPOCH_S)
    return msgspec.structs.replace(public, certificate=fold(der, fqdn, public.device))


def test_a_peer_of_the_own_domain_is_known_by_its_certificate() -> None:
    assert trust().judge(CAROL, shown(CAROL), T0) is CERTIFICATE
    assert trust().judge(CAROL, shown(CAROL).bare, T0) is Reason.CERTIFICATE_MISSING
    assert trust().judge(CAROL, shown(CAROL, ca=2), T0) is Reason.CERTIFICATE_FORGED


def test_the_cas_of_another_domain_must_be_asked_for_first_and_what_comes_first_is_pinned() -> None:
    one = trust()
    assert one.judge(BOB, shown(BOB), T0) == Unknown(NET)

    assert one.learn(NET, NETS, T0)
    assert not one.learn(NET, (der_of(authority(NET, 2)),), T0)

    assert one.judge(BOB, shown(BOB), T0) is CERTIFICATE
    assert one.judge(BOB, shown(BOB, ca=2), T0) is Reason.CERTIFICATE_FORGED
    assert one.authorities[NET] == NETS


def test_where_the_as_says_nothing_the_device_key_does_and_it_is_asked_again_later() -> None:
    one = trust()
    one.learn(NET, (), T0)

    assert one.judge(BOB, shown(BOB), T0) is DEVICE_KEY
    assert one.judge(BOB, shown(BOB).bare, T0) is DEVICE_KEY
    assert one.judge(BOB, shown(BOB), Instant(T0 + AGAIN_NS)) == Unknown(NET)


def test_who_asks_for_certificates_does_not_meet_a_domain_without_a_ca() -> None:
    one = trust(asked=CERTIFICATE)
    one.learn(NET, (), T0)

    assert one.judge(BOB, shown(BOB), T0) is Reason.CERTIFICATE_AUTHORITY
    assert one.judge(BOB, shown(BOB).bare, T0) is Reason.CERTIFICATE_MISSING


@pytest.mark.parametrize("wishes", [(CERTIFICATE, DEVICE_KEY), (DEVICE_KEY, CERTIFICATE)])
def test_the_stricter_of_the_nodes_and_its_domains_wishes_counts(
    wishes: tuple[Authentication, Authentication],
) -> None:
    one = trust()
    one.set_wish((), wishes[0])
    one.set_domain_wish(wishes[1])
    assert one.asks_for_certificates

    one.set_wish((), DEVICE_KEY)
    one.set_domain_wish(DEVICE_KEY)
    assert not one.asks_for_certificates


def test_a_ca_that_was_given_speaks_alone_wherever_it_may() -> None:
    outside = ec_key()
    public = identity(BOB).public
    der = outside.certificate(BOB, public.device)
    by_outside = msgspec.structs.replace(public, certificate=fold(der, BOB, public.device))
    one = trust(given=(outside.der,))
    one.learn(NET, NETS, T0)

    assert one.judge(BOB, by_outside, T0) is CERTIFICATE
    assert one.judge(BOB, shown(BOB), T0) is Reason.CERTIFICATE_AUTHORITY
    assert one.judge(BOB, public, T0) is Reason.CERTIFICATE_MISSING


def test_a_given_ca_with_a_constraint_leaves_other_names_alone() -> None:
    one = trust(given=(der_of(authority(NET)),))

    assert one.judge(BOB, shown(BOB), T0) is CERTIFICATE
    assert one.judge(CAROL, shown(CAROL), T0) is CERTIFICATE


def test_a_key_that_the_pinned_one_signed_takes_its_place_and_no_other_does() -> None:
    one = trust()
    old, new = identity(CAROL), identity("the next key")
    one.pin(Pin(CAROL, old.public.device, *HERE), old.public, DEVICE_KEY)
    signed = new.after(old.public.device, succeed(old.device, new.public.device)).public
    forged = new.after(old.public.device, bytes(64)).public
    by_another = new.after(bytes(32), succeed(old.device, new.public.device)).public

    for wrong in (new.public, forged, by_another):
        assert one.judge(CAROL, wrong, T0) is Reason.IDENTITY_CHANGED
    assert one.judge(CAROL, signed, T0) is Reason.CERTIFICATE_MISSING, "which is another matter"


def test_further_cas_of_the_own_domain_are_taken_and_none_is_replaced() -> None:
    one = trust()
    first, further = OWN[ORG][0], ec_key().der

    assert not one.extend((further,))
    assert not one.extend(())
    assert one.extend((first, further))
    assert one.authorities[ORG] == (first, further)


def test_a_forgotten_peer_and_a_forgotten_domain_are_met_anew() -> None:
    one = trust()
    one.learn(NET, NETS, T0)
    one.pin(Pin(BOB, bytes(32), *HERE), shown(BOB), CERTIFICATE)

    assert one.forget(BOB)
    assert one.forget(NET)

    assert not one.forget(NET)
    assert one.judge(BOB, shown(BOB, device=ALICE), T0) == Unknown(NET)


STEPS = (
    *("true", "bare", "forged", "another key"),
    *("silence", "own CA", "other CA", "wait", "forget its domain", "forget"),
)
"""What a DC shows, what an AS says, what a person does: in any order."""


@example(["own CA", "true", "forget its domain", "silence", "bare"])
@example(["own CA", "true", "forget its domain", "silence", "true", "forged"])
@given(st.lists(st.sampled_from(STEPS), max_size=12))
def test_in_no_order_of_things_is_a_peer_that_was_certified_believed_without(
    steps: list[str],
) -> None:
    one, now, certified = trust(), T0, False
    faces = {
        "true": shown(BOB),
        "bare": shown(BOB).bare,
        "forged": shown(BOB, ca=2),
        "another key": shown(BOB, device=ALICE),
    }
    first_device: bytes | None = None
    for step in steps:
        if step in faces:
            face = faces[step]
            verdict: Verdict = one.judge(BOB, face, now)
            if isinstance(verdict, Unknown):
                verdict = one.judge_alone(BOB)
            if isinstance(verdict, Authentication):
                assert verdict is CERTIFICATE or not certified
                assert first_device in (None, face.device)
                first_device = face.device
                certified = certified or verdict is CERTIFICATE
                one.pin(Pin(BOB, face.device, *HERE), face, verdict)
        elif step == "silence":
            one.learn(NET, (), now)
        elif step == "own CA":
            one.learn(NET, NETS, now)
        elif step == "other CA":
            one.learn(NET, (der_of(authority(NET, 2)),), now)
        elif step == "wait":
            now = after(now, 61)
        elif step == "forget its domain":
            one.forget(NET)
        else:
            one.forget(BOB)
            first_device, certified = None, False
