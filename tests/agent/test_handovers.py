import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ntmobile.agent import handovers as module
from ntmobile.agent.handovers import FILE, MOST_HANDOVERS, Handovers, handover_view
from ntmobile.agent.views import HandoverView
from ntmobile.proto.node.causes import Cause
from ntmobile.proto.node.events import HandoverDone
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.tasks import Tasks
from ntmobile.time import SECOND, Instant
from ntmobile.wire.endpoint import Endpoint

PC, TV = "pc.bob.ntm.example.net", "tv.bob.ntm.example.net"
HERE, NEXT = Endpoint("192.0.2.1", 4330), Endpoint("198.51.100.7", 4330)
THERE, RS = Endpoint("203.0.113.9", 4330), Endpoint("203.0.113.241", 4330)


def handover(number: int, fqdn: str = PC) -> HandoverView:
    return HandoverView(fqdn=fqdn, at=str(number), outage_ms=float(number), from_=None, to="x")


@asynccontextmanager
async def handovers(directory: Path) -> AsyncIterator[Handovers]:
    """Those of one run of the agent."""
    async with Tasks() as tasks:
        made = Handovers(directory, tasks.start)
        yield made
        await made.close()


async def test_handovers_are_there_again_in_the_next_run(tmp_path: Path) -> None:
    async with handovers(tmp_path) as run:
        run.add(handover(1))
        run.add(handover(2))

    async with handovers(tmp_path) as run:
        run.add(handover(3))
        assert [each.at for each in run.kept] == ["1", "2", "3"]
        assert run.trouble is None


async def test_only_the_newest_are_kept_in_memory_and_on_disk(tmp_path: Path) -> None:
    async with handovers(tmp_path) as run:
        for number in range(MOST_HANDOVERS + 5):
            run.add(handover(number))
        first = run.kept[0].at

    async with handovers(tmp_path) as run:
        assert len(run.kept) == MOST_HANDOVERS
        assert run.kept[0].at == first == "5"


async def test_the_newest_of_each_peer_is_at_hand(tmp_path: Path) -> None:
    async with handovers(tmp_path) as run:
        for number, fqdn in enumerate([PC, TV, PC]):
            run.add(handover(number, fqdn))

        assert run.last(PC) == handover(2)
        assert run.last(TV) == handover(1, TV)
        assert run.last("nobody") is None


async def test_the_event_loop_never_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writers: list[threading.Thread] = []
    monkeypatch.setattr(
        module, "write_atomically", lambda path, data: writers.append(threading.current_thread())
    )

    async with handovers(tmp_path) as run:
        run.add(handover(1))

    assert len(writers) == 1
    assert writers[0] is not threading.current_thread()


@pytest.mark.parametrize("content", [b"", b"[{", b'{"a": 1}', b'[{"fqdn": 1}]', b"\xff\x00"])
async def test_a_damaged_file_is_put_aside_and_told_of_once(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)

    with capture_logs() as logs:
        async with handovers(tmp_path) as run:
            assert run.kept == ()
            assert "was damaged" in str(run.trouble)
            run.add(handover(1))

    assert [each["event"] for each in logs] == ["handovers are not kept"]
    assert (tmp_path / f"{FILE}.damaged").read_bytes() == content
    async with handovers(tmp_path) as run:
        assert run.kept == (handover(1),)
        assert run.trouble is None


async def test_a_disk_that_refuses_is_told_of_once_and_tried_again(tmp_path: Path) -> None:
    place = tmp_path / "state"
    with capture_logs() as logs:
        async with Tasks() as tasks:
            run = Handovers(place, tasks.start)  # There is no such directory.
            for number in range(3):
                run.add(handover(number))
                await run.close()
            refused = run.trouble
            place.mkdir()
            run.add(handover(3))
            await run.close()

    assert "cannot write" in str(refused)
    assert run.trouble is None
    assert [each["event"] for each in logs] == ["handovers are not kept"]
    async with handovers(place) as run:
        assert [each.at for each in run.kept] == ["0", "1", "2", "3"]


async def test_what_cannot_be_read_at_all_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()

    async with handovers(tmp_path) as run:
        assert "cannot read" in str(run.trouble)
        shutil.rmtree(tmp_path / FILE)
        run.add(handover(1))

    async with handovers(tmp_path) as run:
        assert run.kept == (handover(1),)


def done(cause: Cause, *, was_relayed: bool = True, old: Endpoint | None = RS) -> HandoverDone:
    return HandoverDone(PC, Instant(5 * SECOND), SECOND // 4, old, THERE, cause, was_relayed, False)


def test_an_own_move_goes_from_own_address_to_own_address() -> None:
    view = handover_view(done(Cause.NEW_NETWORK), HERE, NEXT, Clock(), 7)

    assert (view.from_, view.to, view.cause) == (str(HERE), str(NEXT), "new-network")
    assert (view.outage_ms, view.resent_capsules) == (250.0, 7)
    assert view.before is not None
    assert (view.before.kind, view.before.local, view.before.remote) == (
        "relay",
        str(HERE),
        str(RS),
    )
    assert view.after is not None
    assert (view.after.kind, view.after.local, view.after.remote) == (
        "direct",
        str(NEXT),
        str(THERE),
    )


def test_a_move_of_the_peer_goes_from_its_address_to_its_address() -> None:
    view = handover_view(done(Cause.PEER_MOVED), HERE, HERE, Clock(), 0)

    assert (view.from_, view.to, view.cause) == (str(RS), str(THERE), "peer-moved")


def test_where_there_was_no_path_none_is_told() -> None:
    view = handover_view(done(Cause.UPLINK_BACK, old=None), None, NEXT, Clock(), 0)

    assert (view.from_, view.to, view.before) == (None, str(NEXT), None)


def test_of_a_machine_that_slept_the_sleep_is_the_reason() -> None:
    view = handover_view(done(Cause.NEW_NETWORK), HERE, NEXT, Clock(), 0, slept=True)

    assert view.cause == "woke-up"
