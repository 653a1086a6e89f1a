"""The public half of a node's identity, as it travels through the DCs.

`signature` is the device key's, over b"ntm tunnel key 1" + tunnel, and binds the static key of the
Noise handshake to the device key that was enrolled at login.
Ours: docs/protocol.md sections 2 and 4.
"""

from typing import Annotated

import msgspec

from ntmobile.wire.message import Message, Secret


class PublicIdentity(Message, frozen=True):
    """Device key (Ed25519), tunnel key (X25519), and the one's signature of the other."""

    device: Secret
    tunnel: Secret
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
