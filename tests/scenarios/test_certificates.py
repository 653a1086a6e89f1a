"""Certificates of nodes: given at login, renewed alone, shown to peers, asked of peers.

Source: paper, Node authentication. Ours: docs/protocol.md sections 2 and 4.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.keys.authorities import DAY_S, Issuer, ec_key

from ntmobile.keys.identity import Identity, succeed
from ntmobile.keys.node_certificates import life_of
from ntmobile.proto.node.credentials import Certificates
from ntmobile.proto.node.events import (
    AuthoritiesPinned,
    LoggedIn,
    LoginFailed,
    NameRefused,
    NameResolved,
    PeerRefused,
    Registered,
    TunnelClosed,
)
from ntmobile.sim.node import NodeOptions, SimNode
from ntmobile.sim.organisation import Organisation
from ntmobile.sim.world import World
from ntmobile.wire.identity import Authentication
from ntmobile.wire.login import Neighbour
from ntmobile.wire.registration import Reason
from ntmobile.wire.tunnel import CloseReason

pytestmark = pytest.mark.paper("Node authentication")

ORG, NET = "example.org", "example.net"
CERTIFICATE, DEVICE_KEY = Authentication.CERTIFICATE, Authentication.DEVICE_KEY
STRICT = NodeOptions(asked=CERTIFICATE)
OUTSIDE = ec_key()


def test_nodes_of_two_domains_know_each_other_by_certificate() -> None:
    world, laptop, pc = two_domains()

    world.connect(laptop, pc)

    assert [known(laptop, pc), known(pc, laptop)] == [CERTIFICATE, CERTIFICATE]
    assert world.echo(laptop, pc, b"hello")


def test_the_cas_of_another_domain_are_asked_for_once_and_pinned() -> None:
    world, laptop, pc = two_domains()
    tv = world.node("tv.bob", world.organisations[NET])
    started = world.now

    world.connect(laptop, pc)
    world.connect(laptop, tv)

    asked = [a for a in world.recorder.since(started) if a.message == "Authority Request"]
    assert [arrow.sender for arrow in asked].count(laptop.host.name) == 1
    assert [pinned.domain for pinned in laptop.events_of(AuthoritiesPinned)] == [ORG, NET]
    assert laptop.state.authorities[NET] == world.organisations[NET].accounts.cas


def test_what_the_as_says_of_its_neighbours_at_login_need_not_be_asked() -> None:
    world = World(seed=1)
    made = {domain: world.organisation(domain, certificates=True) for domain in (ORG, NET)}
    for one, other in ((ORG, NET), (NET, ORG)):
        machine = made[one].account.machine
        neighbours = (Neighbour(other, made[other].accounts.cas),)
        machine.vouching = replace(machine.vouching, neighbours=neighbours)
    laptop, pc = world.node("laptop.alice", made[ORG]), world.node("pc.bob", made[NET])
    started = world.now

    world.connect(laptop, pc)

    assert not [a for a in world.recorder.since(started) if a.message == "Authority Request"]
    assert [known(laptop, pc), known(pc, laptop)] == [CERTIFICATE, CERTIFICATE]
    assert laptop.state.authorities[NET] == made[NET].accounts.cas


@pytest.mark.parametrize(("org", "net"), [(True, False), (False, True), (False, False)])
def test_with_a_domain_that_has_no_ca_the_device_key_has_to_do(org: bool, net: bool) -> None:
    world, laptop, pc = two_domains(org=org, net=net)

    world.connect(laptop, pc)

    assert known(laptop, pc) is (CERTIFICATE if net else DEVICE_KEY)
    assert known(pc, laptop) is (CERTIFICATE if org else DEVICE_KEY)


@pytest.mark.parametrize("asks", ["the node", "its domain"])
def test_who_asks_for_certificates_refuses_a_peer_without_one(asks: str) -> None:
    world = World(seed=1)
    domain_asks = CERTIFICATE if asks == "its domain" else DEVICE_KEY
    org = world.organisation(ORG, certificates=True, authentication=domain_asks)
    net = world.organisation(NET)
    options = STRICT if asks == "the node" else NodeOptions()
    laptop = world.node("laptop.alice", org, options=options)
    phone, pc = world.node("phone.alice", org), world.node("pc.bob", net)

    assert refused(world, laptop, pc) is Reason.CERTIFICATE_MISSING
    assert refused(world, pc, laptop) is Reason.CERTIFICATE_MISSING
    assert isinstance(world.connect(laptop, phone), NameResolved)


def test_an_as_that_is_away_keeps_nobody_from_a_first_meeting_by_device_key() -> None:
    world, laptop, pc = two_domains()
    world.organisations[ORG].account.kill()

    world.connect(laptop, pc)

    assert known(laptop, pc) is DEVICE_KEY
    assert known(pc, laptop) is CERTIFICATE


def test_with_an_as_that_is_away_who_asks_for_certificates_meets_no_new_domain() -> None:
    """The twin of the test before; a domain that was met goes on."""
    world, laptop, pc = two_domains(options=STRICT)
    phone = world.node("phone.alice", world.organisations[ORG])
    world.organisations[ORG].account.kill()

    assert refused(world, laptop, pc) is Reason.CERTIFICATE_AUTHORITY
    assert isinstance(world.connect(laptop, phone), NameResolved)


def test_a_node_renews_its_certificate_alone_with_a_third_left() -> None:
    world, laptop, _ = two_domains(certificate_s=3600)
    first = life_of(laptop.state.certificates.issued)

    world.run_for(2390)
    assert len(laptop.events_of(LoggedIn)) == 1
    world.run_for(20)

    second = life_of(laptop.state.certificates.issued)
    assert len(laptop.events_of(LoggedIn)) == 2
    assert second.ends_s - first.ends_s == pytest.approx(2400, abs=15)


def test_a_certificate_that_is_renewed_disturbs_no_tunnel_and_no_next_one() -> None:
    world, laptop, pc = two_domains(certificate_s=600)
    world.connect(laptop, pc)
    for _ in range(20):
        assert world.echo(laptop, pc, b"still here")
        world.run_for(60)

    laptop.call(lambda now: laptop.machine.close_tunnel(pc.fqdn, now))
    world.connect(pc, laptop)

    assert known(pc, laptop) is CERTIFICATE
    assert len(laptop.events_of(LoggedIn)) >= 3


def test_a_dc_that_was_killed_still_knows_what_its_nodes_show() -> None:
    world, laptop, pc = two_domains()

    for organisation in world.organisations.values():
        organisation.restart_coordinator()
    world.connect(laptop, pc)

    assert [known(laptop, pc), known(pc, laptop)] == [CERTIFICATE, CERTIFICATE]


def test_a_tunnel_is_built_while_both_ends_renew_their_certificates() -> None:
    """What was told of an end a moment ago is no lie a moment later."""
    for early_ms in range(0, 200, 10):
        world, laptop, pc = two_domains(certificate_s=90)
        world.run_for(59.4 - early_ms / 1000)
        assert isinstance(world.resolve(laptop, pc.fqdn), NameResolved), early_ms
        assert not [*laptop.events_of(PeerRefused), *pc.events_of(PeerRefused)], early_ms


def test_a_certificate_that_expires_while_the_as_is_away_is_named_and_locks_nobody_out() -> None:
    world, laptop, pc = two_domains(certificate_s=600)
    net = world.organisations[NET]
    world.connect(laptop, pc)
    net.account.kill()
    laptop.call(lambda now: laptop.machine.close_tunnel(pc.fqdn, now))
    world.run_for(700)

    assert refused(world, laptop, pc) is Reason.CERTIFICATE_EXPIRED

    net.restart_account()
    world.run_for(90)
    assert isinstance(world.resolve(laptop, pc.fqdn), NameResolved)


@pytest.mark.parametrize(
    ("off_s", "reason"),
    [
        (-10 * DAY_S, Reason.CERTIFICATE_EARLY),
        (-DAY_S, None),
        (DAY_S, None),
        (10 * DAY_S, Reason.CERTIFICATE_EXPIRED),
    ],
    ids=["10 days behind", "a day behind", "a day ahead", "10 days ahead"],
)
def test_a_clock_off_by_a_day_harms_nobody_and_one_off_by_ten_is_named(
    off_s: int, reason: Reason | None
) -> None:
    world, laptop, pc = two_domains(options=NodeOptions(clock_off_s=off_s))

    assert refused(world, laptop, pc) is reason
    assert refused(world, pc, laptop) is reason


def test_a_revoked_node_is_shut_out_at_once_whatever_its_certificate_says() -> None:
    world, laptop, pc = two_domains()
    world.connect(laptop, pc)

    world.organisations[NET].revoke(pc.fqdn)
    world.run_for(2)

    assert TunnelClosed(pc.fqdn, CloseReason.WITHDRAWN) in laptop.events_of(TunnelClosed)
    assert refused(world, laptop, pc) is not None


GOOD: dict[str, object] = {}
BAD: dict[str, tuple[dict[str, object], str]] = {
    "expired": ({"ends_s": 1_800_000_000 - 1}, "certificate-expired"),
    "not valid yet": ({"begins_s": 1_800_000_000 + DAY_S}, "certificate-not-yet-valid"),
    "of another use": ({"purpose": ExtendedKeyUsageOID.SERVER_AUTH}, "certificate-usage"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_certificate_lets_nobody_in_and_a_good_one_of_the_same_ca_does(name: str) -> None:
    options, reason = BAD[name]

    assert login_by(lambda device: certificate(device, **options)) == reason
    assert login_by(certificate) is None


def test_a_certificate_of_another_name_lets_nobody_in() -> None:
    assert login_by(lambda device: certificate(device, fqdn=f"pc.{ORG}")) == "certificate-name"


def test_a_certificate_of_another_key_lets_nobody_in() -> None:
    assert login_by(lambda _: certificate(Identity.of(b"1" * 32, b"2" * 32).public.device)) == (
        "certificate-key"
    )


def test_a_certificate_of_a_ca_that_the_domain_does_not_trust_lets_nobody_in() -> None:
    assert login_by(certificate, trusted=()) == "certificate-authority-unknown"


def test_a_self_signed_certificate_lets_nobody_in() -> None:
    alone = Issuer(ec_key(5).key, "me")

    outcome = login_by(lambda device: alone.certificate(LAPTOP, device, subject="me"))

    assert outcome == "certificate-self-signed"


def test_after_a_login_by_certificate_the_device_key_is_enough() -> None:
    """It may expire: later just `ntm up`."""
    world, laptop = logged_in_by(certificate)
    laptop.state.certificates = Certificates(issued=laptop.state.certificates.issued)

    again = world.restart(laptop)

    assert isinstance(world.await_registration(again), Registered)


def test_a_certificate_of_a_ca_outside_is_shown_to_peers_that_trust_just_that() -> None:
    world, laptop = logged_in_by(certificate)
    org = world.organisations[ORG]
    careful = world.node("careful.alice", org, options=NodeOptions(trusted=(OUTSIDE.der,)))
    usual = world.node("usual.alice", org)

    for peer in (careful, usual):
        world.connect(peer, laptop)
        assert known(peer, laptop) is CERTIFICATE
    assert refused(world, careful, usual) is Reason.CERTIFICATE_AUTHORITY


def test_a_device_key_that_the_old_one_signed_is_taken_silently_and_another_is_not() -> None:
    world, laptop, pc = two_domains(net=False)
    world.connect(laptop, pc)
    old = pc.state.identity
    new = Identity.of(b"\x01" * 32, b"\x02" * 32)
    signed = new.after(old.public.device, succeed(old.device, new.public.device))

    for identity, outcome in ((signed, None), (EVIL, Reason.IDENTITY_CHANGED)):
        pc.state.identity = identity
        world.organisations[NET].accounts.enrolled[pc.fqdn] = identity.public.device
        pc = world.restart(pc)
        world.await_registration(pc)
        laptop.call(lambda now, pc=pc: laptop.machine.close_tunnel(pc.fqdn, now))
        assert refused(world, laptop, pc) is outcome

    assert laptop.state.pins[pc.fqdn].device == new.public.device


def test_a_pin_that_a_person_forgets_is_made_anew() -> None:
    world, laptop, pc = two_domains(net=False)
    world.connect(laptop, pc)
    pc.state.identity = EVIL
    world.organisations[NET].accounts.enrolled[pc.fqdn] = EVIL.public.device
    pc = world.restart(pc)
    world.await_registration(pc)

    assert laptop.call(lambda now: laptop.machine.forget(pc.fqdn, now))

    assert refused(world, laptop, pc) is None
    assert laptop.state.pins[pc.fqdn].device == EVIL.public.device


LAPTOP = f"laptop.alice.{ORG}"
EVIL = Identity.of(b"\x66" * 32, b"\x67" * 32)


def two_domains(
    *,
    org: bool = True,
    net: bool = True,
    certificate_s: int | None = None,
    options: NodeOptions = NodeOptions(),  # noqa: B008 - frozen
) -> tuple[World, SimNode, SimNode]:
    world = World(seed=1)
    made = [
        world.organisation(domain, certificates=certificates)
        for domain, certificates in ((ORG, org), (NET, net))
    ]
    for one in made:
        one.accounts.certificate_s = certificate_s or one.accounts.certificate_s
    laptop = world.node("laptop.alice", made[0], options=options)
    return world, laptop, world.node("pc.bob", made[1])


def certificate(device: bytes, *, fqdn: str = LAPTOP, **options: object) -> bytes:
    return OUTSIDE.certificate(fqdn, device, **options)  # type: ignore[arg-type]


def logged_in_by(
    made: Callable[[bytes], bytes], trusted: tuple[bytes, ...] = (OUTSIDE.der,)
) -> tuple[World, SimNode]:
    """Log a laptop in by a certificate that is made over its device key."""
    world = World(seed=1)
    org: Organisation = world.organisation(ORG, certificates=True, trusted=trusted)
    laptop = world.stranger("laptop.alice", org)
    given = made(laptop.state.identity.public.device)
    laptop.state.certificates = replace(laptop.state.certificates, given=given)
    laptop = world.restart(laptop)
    world.run_until(lambda: bool(laptop.events_of(Registered) or laptop.events_of(LoginFailed)))
    return world, laptop


def login_by(
    made: Callable[[bytes], bytes], trusted: tuple[bytes, ...] = (OUTSIDE.der,)
) -> str | None:
    """Return why a certificate did not let its node in; None when it did."""
    _, laptop = logged_in_by(made, trusted)
    failed = laptop.events_of(LoginFailed)
    return failed[0].code if failed else None


def refused(world: World, node: SimNode, peer: SimNode) -> Reason | None:
    answer = world.resolve(node, peer.fqdn)
    return answer.reason if isinstance(answer, NameRefused) else None


def known(node: SimNode, peer: SimNode) -> Authentication:
    (view,) = [view for view in node.machine.peers() if view.fqdn == peer.fqdn]
    return view.authenticated
