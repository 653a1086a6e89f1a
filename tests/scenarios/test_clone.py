"""A state directory that was copied. Source: docs/protocol.md, section 2."""

from ntmobile.sim.world import World


def test_the_newer_of_two_copies_of_a_state_directory_wins_and_the_older_does_not_fight() -> None:
    world = World()
    org = world.organisation()
    node = world.node("laptop.alice", org)

    clone = world.clone(node, world.internet.home("cafe"))
    world.await_registration(clone)
    world.run_for(300)

    assert node.machine.view().state == "degraded"
    assert "superseded" in node.machine.view().reason
    assert clone.machine.view().state == "up"
    stored = org.registrations.nodes[node.fqdn]
    assert stored.instance == clone.machine.settings.instance


def test_the_older_copy_is_told_in_a_handful_of_messages() -> None:
    world = World()
    org = world.organisation()
    node = world.node("laptop.alice", org)
    clone = world.clone(node, world.internet.home("cafe"))
    world.await_registration(clone)
    before = len(world.recorder.steps)

    world.run_for(300)

    about_the_old = [step for host, step in world.recorder.steps[before:] if host == node.fqdn]
    assert len(about_the_old) < 10
