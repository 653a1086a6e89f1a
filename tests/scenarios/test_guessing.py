"""One random port among all, found by a birthday; and what happens to the sockets that found it."""

from tests.scenarios.test_direct import couple, relayed
from tests.scenarios.test_nat_kinds import use

from ntmobile.proto.oracle import Budget
from ntmobile.sim.nat import EASY, HARD
from ntmobile.sim.node import Received, SimNode
from ntmobile.sim.world import World


def test_a_guessed_path_takes_over_without_a_loss_and_costs_the_budget() -> None:
    world, mn, cn = guessed(run=False)
    nats = [world.internet.gateways[f"{end} home"].nat for end in ("mn", "cn")]
    before = [len(nat) for nat in nats if nat is not None]
    arrived: list[Received] = []
    cn.listen(9, arrived.append)

    for number in range(400):
        mn.send(mn.address_of(cn), 9, b"%d" % number, 10)
        world.run_for(0.05)

    assert not relayed(mn, cn)
    assert not relayed(cn, mn)
    assert sorted(int(got.data) for got in arrived) == list(range(400))
    made = [len(nat) - held for nat, held in zip(nats, before, strict=True) if nat is not None]
    assert made[1] == 0, "the easy end has one mapping for all"
    assert 0 < made[0] <= Budget().mappings


def test_all_sockets_but_the_winner_are_closed_and_it_goes_with_the_path() -> None:
    world, mn, cn = guessed()
    assert (len(mn.ports), len(cn.ports)) == (1, 0)

    for organisation in world.organisations.values():
        organisation.relay.kill()
    assert world.echo(mn, cn, b"without a relay", limit_s=0.2)
    for organisation in world.organisations.values():
        organisation.restart_relay()

    world.move(mn, world.internet.home("cafe", EASY))
    assert world.echo(mn, cn, b"from the cafe")
    assert (len(mn.ports), len(cn.ports)) == (0, 0)


def test_the_guessed_path_is_kept_open_while_nothing_is_said_for_a_minute() -> None:
    world, mn, cn = guessed()

    world.run_for(60)

    assert world.echo(cn, mn, b"still there", limit_s=0.2)
    assert not relayed(mn, cn)


def test_a_nat_that_forgets_the_guessed_path_makes_it_the_relays_again() -> None:
    world, mn, cn = guessed()

    world.internet.gateways["mn home"].reboot()
    world.run_until(lambda: world.echo(mn, cn, b"again", limit_s=0.5), "the tunnel to carry", 30)
    world.run_until(lambda: relayed(mn, cn) and relayed(cn, mn), "the relay", 30)

    assert (len(mn.ports), len(cn.ports)) == (0, 0)


def test_a_tunnel_that_is_used_for_moments_stays_behind_its_relay() -> None:
    """The negative twin."""
    world, mn, cn = guessed(run=False)

    for _ in range(20):
        assert world.echo(mn, cn, b"now and then")
        world.run_for(20)

    assert relayed(mn, cn)
    assert (len(mn.ports), len(cn.ports)) == (0, 0)


def test_two_peers_of_one_node_are_guessed_at_one_after_the_other() -> None:
    world = World("two peers")
    mn, cn = couple(world, HARD, EASY)
    org, home = mn.organisation, world.internet.home("other home", HARD)
    other = world.node("tablet.carol", org, home)
    for each in (mn, other):
        world.connect(each, cn)
    at: dict[str, float] = {}
    for second in range(160):
        for each in (mn, other):
            assert world.echo(each, cn, b"used")
            if not relayed(each, cn):
                at.setdefault(each.fqdn, second)
        world.run_for(0.9)

    assert len(at) == 2, at
    assert abs(at[mn.fqdn] - at[other.fqdn]) >= 15


def guessed(*, run: bool = True) -> tuple[World, SimNode, SimNode]:
    """MN has random ports, CN has not; run: until the path between them is direct."""
    world = World("guessed")
    mn, cn = couple(world, HARD, EASY)
    world.connect(mn, cn)
    assert world.echo(mn, cn, b"first")
    world.run_for(8)
    assert relayed(mn, cn)
    if run:
        use(world, mn, cn)
        world.run_for(3)
        assert not relayed(mn, cn)
        assert not relayed(cn, mn)
    return world, mn, cn
