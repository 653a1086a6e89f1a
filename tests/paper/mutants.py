"""A pytest plugin that breaks the protocol in one place, as the variable NTM_MUTANT says.

`drop MESSAGE`: no machine ever sends it, and none ever hears it.
`swap KEY`: each participant gets other bytes for the key than the one it shares it with.

Nothing on disk is touched; `scripts/mutate` runs the citing tests under each of them.
"""

import hashlib
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import pytest
from tests.paper.page import Kind, items
from tests.paper.report import KNOWN_GAPS, UNPROVEN

import ntmobile.proto
from ntmobile.errors import DecodeError
from ntmobile.keys.table import CommonKey
from ntmobile.proto.conversation import Conversation
from ntmobile.proto.io import FindCoordinator
from ntmobile.proto.journal import paper_name
from ntmobile.proto.node.handshake import Handshake, Secrets
from ntmobile.sim.plane import Plane
from ntmobile.wire.datagram import Envelope

VARIABLE = "NTM_MUTANT"
OUTLETS = ("poll_request", "poll_reply", "poll_call")
"""What machines and their parts call the places where requests and answers leave."""
INLETS = ("handle_request", "handle_reply")
"""And where those of others come in."""


@dataclass(frozen=True, order=True)
class Mutant:
    """One break."""

    act: str
    item: str

    def __str__(self) -> str:
        return f"{self.act} {self.item}"

    def apply(self) -> None:
        """Break this process for good."""
        {"drop": drop, "swap": swap}[self.act](self.item)


def mutants() -> tuple[Mutant, ...]:
    """Return one for each message and key of the paper that is built."""
    acts = {Kind.MESSAGE: "drop", Kind.KEY: "swap"}
    built = (item for item in items() if item.name not in KNOWN_GAPS | UNPROVEN.keys())
    return tuple(Mutant(acts[item.kind], item.name) for item in built if item.kind in acts)


def pytest_configure(config: pytest.Config) -> None:
    """Break what the variable names."""
    asked = os.environ.get(VARIABLE)
    if asked is not None:
        act, item = asked.split(" ", 1)
        Mutant(act, item).apply()


def drop(name: str) -> None:
    """Let a message vanish: no machine sends it, and none hears it from a hand-made peer."""
    if name == "Capsule":
        Plane._send_inner = lambda *_: None  # type: ignore[method-assign]
        return
    _drop_datagrams(name)
    for kind in _machines():
        for outlet in set(OUTLETS) & vars(kind).keys():
            setattr(kind, outlet, _without(vars(kind)[outlet], name))
        for inlet in set(INLETS) & vars(kind).keys():
            setattr(kind, inlet, _deaf(vars(kind)[inlet], name))


def _drop_datagrams(name: str) -> None:
    """What is sealed, in a datagram or in a frame: neither sent nor understood."""
    transmit, decode = Conversation._transmit, Envelope.decode

    def transmit_others(self: Any, transaction: int, message: Any, *rest: Any, **more: Any) -> None:
        if _name(message) != name:
            transmit(self, transaction, message, *rest, **more)

    def decode_others(data: bytes) -> Envelope:
        envelope = decode(data)
        if _name(envelope.message) == name:
            raise DecodeError("dropped")
        return envelope

    Conversation._transmit = transmit_others  # type: ignore[method-assign]
    Envelope.decode = staticmethod(decode_others)  # type: ignore[assignment,method-assign]
    for kind in _machines():
        if "_say" in vars(kind):
            kind._say = _deaf(vars(kind)["_say"], name)  # type: ignore[attr-defined]


def swap(name: str) -> None:
    """Give every participant bytes of its own for a key."""
    numbers = itertools.count()
    if name == "Kmncn":
        finish = Handshake.finish

        def finish_otherwise(self: Handshake) -> Secrets:
            made = finish(self)
            return Secrets(_other(made.send_key, numbers), made.receive_key, made.hash)

        Handshake.finish = finish_otherwise  # type: ignore[method-assign]
        return
    make = CommonKey.__init__

    def make_otherwise(self: CommonKey, secret: bytes, *rest: Any) -> None:
        own = type(self).__name__ == name
        make(self, _other(secret, numbers) if own else secret, *rest)

    CommonKey.__init__ = make_otherwise  # type: ignore[method-assign]


def _other(secret: bytes, numbers: "itertools.count[int]") -> bytes:
    return hashlib.sha256(secret + next(numbers).to_bytes(8)).digest()


def _machines() -> list[type]:
    names = [each.name for each in walk_packages(ntmobile.proto.__path__, "ntmobile.proto.")]
    modules = [import_module(name) for name in names]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]


def _without(poll: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
    def poll_others(self: Any) -> Any:
        while (left := poll(self)) is not None and _name(left) == name:
            pass
        return left

    return poll_others


def _deaf(handle: Callable[..., Any], name: str) -> Callable[..., Any]:
    def handle_others(self: Any, *given: Any) -> Any:
        return None if any(_name(each) == name for each in given) else handle(self, *given)

    return handle_others


def _name(left: object) -> str:
    """The paper's name of a message, or of that in a request or an answer."""
    if isinstance(left, FindCoordinator):
        return "NS Query"
    return paper_name(type(getattr(left, "message", left)))
