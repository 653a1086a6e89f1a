"""What NATs do, in the words of RFC 4787: what is found out, foretold and simulated of them."""

from enum import StrEnum

from ntmobile.wire.endpoint import Endpoint, Host


class Behaviour(StrEnum):
    """What of the far end matters. Source: RFC 4787, sections 4.1 and 5."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"

    def view(self, remote: Endpoint) -> tuple[Host | int, ...]:
        """Return the part of a far end that this behaviour looks at."""
        match self:
            case Behaviour.ENDPOINT_INDEPENDENT:
                return ()
            case Behaviour.ADDRESS_DEPENDENT:
                return (remote.host,)
            case Behaviour.ADDRESS_AND_PORT_DEPENDENT:
                return (remote.host, remote.port)


class PortAssignment(StrEnum):
    """How the outer port is picked. Source: RFC 4787, section 4.2."""

    PRESERVING = "preserving"
    """The inner port when it is free, else the next free one above."""
    SEQUENTIAL = "sequential"
    RANDOM = "random"
