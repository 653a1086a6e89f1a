"""Bodies of the simulated HTTPS requests: the real messages, signed as servers sign them."""

import hashlib
from dataclasses import dataclass

import msgspec

from ntmobile.errors import DecodeError
from ntmobile.keys.identity import sign, verify
from ntmobile.proto.io import Caller
from ntmobile.sim.directory import Directory
from ntmobile.time import SECOND, Instant
from ntmobile.wire.federation import REQUEST_LIFETIME_S, KeySharing, request_bytes
from ntmobile.wire.login import (
    AuthorityRequest,
    AuthorityResponse,
    KeyDistribution,
    LoginRefusal,
    LoginRequest,
    LoginResponse,
    Nonce,
    NonceRequest,
)
from ntmobile.wire.message import Message, decode, decoder, encode
from ntmobile.wire.registration import NtmAck, Refusal

PATH = "/ntm/v1/keys"

Question = NonceRequest | LoginRequest | AuthorityRequest | KeyDistribution | KeySharing
Answer = Nonce | LoginResponse | LoginRefusal | AuthorityResponse | NtmAck | Refusal
_QUESTION: "msgspec.msgpack.Decoder[Question]" = decoder(Question)  # type: ignore[arg-type]
_ANSWER: "msgspec.msgpack.Decoder[Answer]" = decoder(Answer)  # type: ignore[arg-type]


class _Post(msgspec.Struct, frozen=True, array_like=True):
    body: bytes
    asker: str = ""
    asked: str = ""
    time_s: int = 0
    nonce: bytes = b""
    signature: bytes = b""


_POST = decoder(_Post)


@dataclass(frozen=True, slots=True)
class Signer:
    """A domain's name and its private key."""

    domain: str
    private: bytes


def post(message: Message, nonce: bytes, now: Instant) -> bytes:
    """Return the body of a node's request, unsigned; the nonce makes it unique."""
    return encode(_Post(encode(message), time_s=now // SECOND, nonce=nonce))


def signed_post(message: Message, signer: Signer, asked: str, nonce: bytes, now: Instant) -> bytes:
    """Return the body of a server's request, signed with its domain's key."""
    post = _Post(encode(message), signer.domain, asked, now // SECOND, nonce)
    signature = sign(signer.private, _signed(post, asked))
    return encode(msgspec.structs.replace(post, signature=signature))


def read_post(
    data: bytes, own: str, directory: Directory, source: str, now: Instant
) -> tuple[Caller, Question]:
    """Parse a request and judge its signature; raises DecodeError when either is wrong."""
    post = decode(_POST, data)
    message = decode(_QUESTION, post.body)
    if not post.asker:
        return Caller(None, source), message
    domain = directory.domain(post.asker)
    fresh = abs(now // SECOND - post.time_s) <= REQUEST_LIFETIME_S
    if domain is None or not fresh or post.asked != own:
        raise DecodeError("a request from nobody known, or stale, or for another")
    if not verify(domain.key, post.signature, _signed(post, own)):
        raise DecodeError("a request with a wrong signature")
    return Caller(post.asker, source), message


def read_answer(data: bytes) -> Answer:
    """Parse an answer; raises DecodeError."""
    return decode(_ANSWER, data[8:])


def answer_body(message: Message, unique: int) -> bytes:
    """Return the body of an answer; the number keeps it apart from equal ones in the recording."""
    return unique.to_bytes(8) + encode(message)


def _signed(post: _Post, server: str) -> bytes:
    return request_bytes(
        path=PATH,
        body=post.body,
        asker=post.asker,
        asked=post.asked,
        time_s=post.time_s,
        nonce=post.nonce,
        certificate=hashlib.sha256(server.encode()).digest(),
    )
