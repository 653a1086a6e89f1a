"""AS as a program: the role's machine, the judge of logins, and calls to the DC."""

from dataclasses import replace

import structlog

from ntmobile.proto.account.account import Account
from ntmobile.proto.io import (
    AuthoritiesFound,
    Call,
    Caller,
    CoordinatorFound,
    Entropy,
    Failed,
    FindAuthorities,
    LoginVerified,
    VerifyLogin,
)
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.driver import Driver, Outlet
from ntmobile.runtime.tasks import Tasks
from ntmobile.servers.authority import NodeAuthority
from ntmobile.servers.calls import Calls
from ntmobile.servers.config import Role
from ntmobile.servers.logins import Logins
from ntmobile.servers.own import OwnDomain
from ntmobile.servers.requests import Requests
from ntmobile.servers.steps import Steps
from ntmobile.wire.login import Neighbour
from ntmobile.wire.message import Message

log = structlog.get_logger()


class AccountServer:
    """Runs one AS. Source: paper, Fig. 2."""

    def __init__(
        self,
        own: OwnDomain,
        logins: Logins,
        calls: Calls,
        *,
        entropy: Entropy,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        """Must be made inside the event loop."""
        settings = own.settings
        self.logins = logins
        self._calls = calls
        self._requests = Requests()
        self.steps = Steps(clock)
        self.machine = Account(
            own.name,
            own.public,
            settings.name_of(Role.DC),
            own.signalling(),
            entropy,
            settings.nodes.lifetime_s,
            logins.authority.vouching,
            coordinator_https=settings.dc.https,
        )
        self.driver = Driver(self.machine, (), clock=clock, tasks=tasks)
        perform = self.driver.perform(self._perform, self.machine.handle_reply)
        self.driver.outlets = (
            Outlet(self.machine.poll_request, perform),
            Outlet(self.machine.poll_reply, self._requests.answer),
            Outlet(self.machine.poll_event, self.steps.add),
        )
        self.driver.start()

    async def take(self, caller: Caller, message: Message) -> Message:
        """Take a request that came over HTTPS; raises Overloaded."""
        machine = self.machine
        return await self._requests.ask(
            lambda id: self.driver.do(lambda now: machine.handle_request(id, caller, message, now))
        )

    def set_authority(self, authority: NodeAuthority) -> None:
        """Issue and believe certificates by this from now."""
        self.logins.authority = authority
        known = self.machine.vouching.neighbours
        self.machine.vouching = replace(authority.vouching, neighbours=known)

    def set_neighbours(self, neighbours: tuple[Neighbour, ...]) -> None:
        """Tell nodes the CAs of these domains at their logins from now."""
        self.machine.vouching = replace(self.machine.vouching, neighbours=neighbours)

    def close(self) -> None:
        """Stops taking logins."""
        self.driver.close()
        self.logins.close()

    async def _perform(
        self, request: Call | VerifyLogin | FindAuthorities
    ) -> Message | LoginVerified | CoordinatorFound | AuthoritiesFound | Failed:
        if isinstance(request, VerifyLogin):
            return await self.logins.verify(request)
        reply = await self._calls.perform(request)
        if isinstance(reply, Failed) and isinstance(request, Call):
            log.error("the DC took no key", why=reply.detail, reason=reply.reason)
        return reply
