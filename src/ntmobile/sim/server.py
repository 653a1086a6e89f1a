"""What all server processes share: signed HTTPS requests out, judged requests in."""

from collections import Counter
from typing import Any, Protocol

from ntmobile.errors import DecodeError
from ntmobile.proto.io import Call, Caller, Failed, Reply, random_bytes
from ntmobile.proto.journal import paper_name
from ntmobile.proto.observation import observe
from ntmobile.sim.directory import HTTPS_PORT, Directory
from ntmobile.sim.exchange import Answer, Client, Service
from ntmobile.sim.host import SimHost
from ntmobile.sim.internet import Internet
from ntmobile.sim.packet import Transport
from ntmobile.sim.process import Machine, Process
from ntmobile.sim.recorder import Recorder
from ntmobile.sim.web import Signer, answer_body, read_answer, read_post, signed_post
from ntmobile.time import Instant
from ntmobile.wire.endpoint import Endpoint
from ntmobile.wire.message import Message
from ntmobile.wire.registration import Reason
from ntmobile.wire.stun import BindingRequest, is_stun

SIGNALLING_PORT = 4330


class ServerMachine(Machine, Protocol):
    """What all server machines have besides."""

    def handle_request(self, id: int, caller: Caller, message: Message, now: Instant) -> None:
        """Take an HTTPS request."""
        ...

    def poll_reply(self) -> Reply | None:
        """Next answer to an HTTPS request."""
        ...


class Server(Process):
    """One role on one host, with HTTPS both ways.

    Requests are signed with the domain's key; requests of others are believed by theirs.
    """

    machine: ServerMachine
    other_port: int | None = None
    """A second UDP port, which answers STUN only."""

    def __init__(
        self,
        internet: Internet,
        recorder: Recorder,
        host: SimHost,
        directory: Directory,
        signer: Signer,
    ) -> None:
        """Serves on the host's HTTPS port."""
        super().__init__(internet, recorder, host, SIGNALLING_PORT)
        self.directory = directory
        self.signer = signer
        self.refused: Counter[str] = Counter()
        self.skew_ns = 0
        """How far its wall clock is ahead; survives no restart, as after a time server's help."""
        self.entropy = internet.entropy.fork(f"{host.name} {internet.now}")
        self.https = Client(host, internet.calendar, self.entropy.fork("https"))
        self._service = Service(host, HTTPS_PORT, self._serve)
        self._answers: dict[int, Answer] = {}
        self._requests = 0

    def kill(self) -> None:
        """Die; ports close, connections are lost."""
        super().kill()
        self.https.close()
        self._service.close()

    def _receive(self, source: Endpoint, data: bytes, interface: int) -> None:
        if is_stun(data):
            self._observe(source, data, self.other_port)
        else:
            super()._receive(source, data, interface)

    def _receive_at_other(self, source: Endpoint, data: bytes, _interface: int) -> None:
        if is_stun(data):
            self._observe(source, data, None)

    def _observe(self, source: Endpoint, data: bytes, other_port: int | None) -> None:
        """Answer STUN; at the other port itself, other_port is None."""
        try:
            answer = observe(BindingRequest.decode(data), source, other_port)
        except DecodeError:
            self.refused["malformed STUN"] += 1
            return
        at_other = self.other_port is not None and (other_port is None or answer.from_other_port)
        port = self.other_port if at_other else self.port
        assert port is not None
        transmit = answer.transmit
        self.host.send(Transport.UDP, port, transmit.destination, transmit.payload)

    def ask(self, request: Call, to: Endpoint, asked: str, asked_host: str) -> None:
        """Make a server's HTTPS request; its outcome goes to the machine's handle_reply."""
        nonce = random_bytes(self.entropy, 16)
        wall = Instant(self.now + self.skew_ns)
        body = signed_post(request.message, self.signer, asked, nonce, wall)
        self.recorder.departed(self.host.name, body, self.now, "HTTPS")

        def done(data: bytes | None) -> None:
            reply = self._read(data, asked_host)
            self.reply(request.id, reply)

        self.https.ask(to, body, done)

    def reply(self, id: int, reply: object) -> None:
        """Hand an outcome to the machine."""
        if self.alive:
            self.call(lambda now: self._handle_reply(id, reply, now))

    def _handle_reply(self, id: int, reply: Any, now: Instant) -> None:  # noqa: ANN401
        raise NotImplementedError

    def _read(self, data: bytes | None, asked_host: str) -> object:
        if data is None:
            return Failed(Reason.DOMAIN_UNREACHABLE, f"{asked_host} is silent")
        try:
            message = read_answer(data)
        except DecodeError as error:
            return Failed(Reason.NOT_ALLOWED, str(error))
        self.recorder.arrived(self.host.name, data, self.now, paper_name(type(message)))
        return message

    def _serve(self, data: bytes, source: Endpoint, answer: Answer) -> None:
        try:
            caller, message = read_post(
                data,
                self.signer.domain,
                self.directory,
                str(source.host),
                Instant(self.now + self.skew_ns),
            )
        except DecodeError as error:
            self.refused[str(error)] += 1
            answer(b"")
            return
        self.recorder.arrived(self.host.name, data, self.now, paper_name(type(message)))
        self._requests += 1
        number = self._requests
        self._answers[number] = answer
        self.call(lambda now: self.machine.handle_request(number, caller, message, now))

    def _drain_more(self) -> bool:
        reply = self.machine.poll_reply()
        if reply is None:
            return False
        respond = self._answers.pop(reply.id)
        body = answer_body(reply.message, self.entropy.getrandbits(64))
        self.recorder.departed(self.host.name, body, self.now, "HTTPS")
        respond(body)
        return True
