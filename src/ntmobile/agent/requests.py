"""What `ntm` asks the agent over its control socket, and the frames of the answer.

A connection carries one request, a line of JSON, and then lines of JSON back: any number of Said
and Item, ended by one Done or Trouble. Closing the connection ends what was asked. The socket is
local and the two ends are of one version, so an unknown field is an error.
"""

from typing import Any

import msgspec

from ntmobile.agent.records import SavedAccount

MAX_LINE = 1 << 20
"""Bytes of a request; a CA file fits."""


class Request(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="do", forbid_unknown_fields=True
):
    """Base of every request."""

    identity: str | None = None
    """Which one is meant, as a person names it; None: the agent finds out, or asks."""


class Up(Request, frozen=True, tag="up"):
    """Log in and register; answered by a StatusView once registered, with Said meanwhile."""

    account: SavedAccount | None = None
    """None: the one in the state."""
    password: str | None = None
    authority: str | None = None
    """A pre-authorised key."""
    certificate: str | None = None
    """PEM text, with its key: that becomes the device key."""
    key: str | None = None

    def __repr__(self) -> str:
        return f"Up({self.account!r})"


class Down(Request, frozen=True, tag="down"):
    """Close the tunnels, restore the machine's network and end the agent."""

    forget: bool = False
    """Also forget the account (`ntm logout`)."""


class AskStatus(Request, frozen=True, tag="status"):
    """Answered by a StatusView."""


class AskPeers(Request, frozen=True, tag="peers"):
    """Every peer this node ever met; answered by a PeersView."""


class Ping(Request, frozen=True, tag="ping"):
    """Tunnel-level ping: an Item PongView for each try, then a PingSummary."""

    fqdn: str
    count: int | None = None
    """None: until the client goes away."""
    until_direct: bool = False
    """End at the first answer over a direct path."""
    interval_ms: int = 1000


class Wait(Request, frozen=True, tag="wait"):
    """Answered by a StatusView once this node, or the tunnel to fqdn, is up."""

    fqdn: str | None = None
    timeout_s: float | None = None


class Wake(Request, frozen=True, tag="wake"):
    """The app's push message arrived; answered by a StatusView once the DC has answered."""


class AskKeys(Request, frozen=True, tag="keys"):
    """Answered by a KeysView."""


class AskTrace(Request, frozen=True, tag="trace"):
    """How the tunnel to a node was built; answered by a TraceView."""

    fqdn: str | None = None
    """None: how this node logged in and registered."""


class AskHandovers(Request, frozen=True, tag="handovers"):
    """Answered by a HandoversView."""


class Whois(Request, frozen=True, tag="whois"):
    """Whose a virtual address is; answered by a WhoisView."""

    address: str


class Set(Request, frozen=True, tag="set"):
    """Change settings; answered by the ChoicesView, which no change at all just shows."""

    changes: dict[str, str] = {}


class AskDns(Request, frozen=True, tag="dns"):
    """Answered by a DnsView."""


class AskBugReport(Request, frozen=True, tag="bugreport"):
    """Answered by a BugReport, which holds no secret."""


class Expose(Request, frozen=True, tag="expose"):
    """Offer a local port to peers, or no longer; answered by nothing."""

    port: int
    offered: bool = True


class AskNetcheck(Request, frozen=True, tag="netcheck"):
    """Examine the network; answered by a NetcheckView, with Said meanwhile."""

    lifetime: bool = False
    """Also measure how long idle mappings live: up to five minutes."""


AnyRequest = (
    Up
    | Down
    | AskStatus
    | AskPeers
    | Ping
    | Wait
    | Wake
    | AskKeys
    | AskTrace
    | AskHandovers
    | Whois
    | Set
    | AskDns
    | AskBugReport
    | AskNetcheck
    | Expose
)


class Answer(msgspec.Struct, frozen=True, tag_field="is"):
    """Base of every line of an answer."""


class Said(Answer, frozen=True, tag="said"):
    """What the agent is doing, for a person who waits."""

    text: str


class Item(Answer, frozen=True, tag="item"):
    """One of many results."""

    value: msgspec.Raw


class Done(Answer, frozen=True, tag="done"):
    """The result."""

    value: msgspec.Raw = msgspec.Raw(b"null")


class Trouble(Answer, frozen=True, tag="trouble"):
    """It failed: what is wrong and what was kept, and the command to run next."""

    problem: str
    remedy: str = ""


AnyAnswer = Said | Item | Done | Trouble

_REQUESTS = msgspec.json.Decoder(AnyRequest)
_ANSWERS = msgspec.json.Decoder(AnyAnswer)


def encode_line(message: Request | Answer) -> bytes:
    """Return one line."""
    return msgspec.json.encode(message) + b"\n"


def decode_request(line: bytes) -> AnyRequest:
    """Parse a request; raises ValueError."""
    request: AnyRequest = _REQUESTS.decode(line)
    return request


def decode_answer(line: bytes) -> AnyAnswer:
    """Parse a line of an answer; raises ValueError."""
    answer: AnyAnswer = _ANSWERS.decode(line)
    return answer


def item(view: Any) -> Item:  # noqa: ANN401
    """Wrap one of many results."""
    return Item(msgspec.Raw(msgspec.json.encode(view)))


def done(view: Any = None) -> Done:  # noqa: ANN401
    """Wrap the result."""
    return Done(msgspec.Raw(msgspec.json.encode(view)))
