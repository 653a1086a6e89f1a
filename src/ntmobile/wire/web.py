"""Where a server takes datagrams in a WebSocket, for nodes whose network lets no UDP pass.

`GET PATH/dc` or `PATH/rs` over HTTPS, upgraded (RFC 6455, no extension); from then on each binary
message is one datagram. Ours: docs/protocol.md section 3.
"""

from typing import Annotated

import msgspec

from ntmobile.wire.message import Fqdn, Message, Secret

DC_PATH = "/ntm/v1/datagrams/dc"
RS_PATH = "/ntm/v1/datagrams/rs"
HTTPS_PORT = 443
MAX_MESSAGE = 0xFFFF
"""Bytes: what one UDP datagram can hold."""

Port = Annotated[int, msgspec.Meta(ge=1, le=0xFFFF)]


class WebPlace(Message, frozen=True):
    """A server's HTTPS, and the key that vouches for its certificate."""

    host: Fqdn
    """A name below the server's domain."""
    domain_key: Secret
    port: Port = HTTPS_PORT

    @property
    def domain(self) -> str:
        """The domain whose key it is."""
        return self.host.partition(".")[2]
