"""Push services in a lab: a machine of their own, operators that use them, and phones.

site = PushSite(world)
site.subscribe_operator(organisation)
phone = site.phone(node, "web")        # its system gets a token, and starts `ntm wake`
node.up(options=("--push", phone.option))
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ntmobile.lab.errors import LabError
from ntmobile.lab.ntm import NTM, NtmNode, Organisation, World
from ntmobile.lab.push.device import Counts, Expire, Fail, Mend
from ntmobile.lab.push.services import (
    APNS_KEY,
    APNS_PORT,
    DEVICE_PORT,
    HTTPS_PORT,
    PROJECT,
    TEAM,
    TOPIC,
)
from ntmobile.lab.waiting import wait_until

NAME = "push.example.org"
START_S = 30.0
FILES = ("ca.pem", "fcm.json", "apns.p8")
SECTION = f"""
[push]
ca = "push-ca.pem"

[push.fcm]
endpoint = "https://{NAME}:{HTTPS_PORT}"
project = "{PROJECT}"
credentials = "push-fcm.json"

[push.apns]
endpoint = "https://{NAME}:{APNS_PORT}"
key = "push-apns.p8"
key_id = "{APNS_KEY}"
team_id = "{TEAM}"
topic = "{TOPIC}"

[push.web]
vapid_key = "vapid.key"
services = ["{NAME}"]
"""


@dataclass
class Phone:
    """The operating system of a node's machine, as far as push goes."""

    service: str
    file: Path
    """Where the token was written: `fcm:TOKEN`, `apns:TOKEN`, or a subscription's JSON."""
    process: subprocess.Popen[str]
    log: Path

    @property
    def option(self) -> str:
        """What `ntm up --push` takes."""
        return f"web:{self.file}" if self.service == "web" else self.file.read_text()

    @property
    def token(self) -> str:
        """The service's own name of the token."""
        if self.service != "web":
            return self.file.read_text().partition(":")[2]
        endpoint: str = json.loads(self.file.read_text())["endpoint"]
        return endpoint.rpartition("/")[2]

    def stop(self) -> None:
        """The phone is switched off: no push starts anything any more."""
        self.process.kill()
        self.process.wait()


class PushSite:
    """FCM, APNs and Web Push on one machine of the internet."""

    def __init__(self, world: World) -> None:
        """Make the machine and start the services."""
        self._world = world
        self.host = world.lab.host("push", world.internet, ipv6=None)
        self.directory = world.directory / "push-services"
        world.dns.add(f"{NAME}. 60 IN A {self.host.ipv4}")
        self._phones = 0
        self.start()

    def start(self) -> None:
        """Start the services; returns when they answer."""
        address = str(self.host.ipv4)
        command = [sys.executable, "-m", "ntmobile.lab.push", str(self.directory), NAME, address]
        self._process = self.host.popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise LabError("the push services did not start")

    def stop(self) -> None:
        """End the services, as in an outage; phones lose their link."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Meanwhile the services take connections, and say nothing on any, old or new."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def subscribe_operator(self, organisation: Organisation) -> None:
        """Give an operator credentials, and have its running servers use them."""
        for name in FILES:
            content = (self.directory / name).read_bytes()
            (organisation.directory / f"push-{name}").write_bytes(content)
        settings = organisation.directory / "server.toml"
        text, _, _ = settings.read_text().partition("[push")
        settings.write_text(text + SECTION)
        reload(organisation)

    def phone(self, node: NtmNode, service: str, *, delay_s: float = 0.0) -> Phone:
        """Start a phone's system on a node's machine; returns when it has its token.

        It takes delay_s from a push to the start of the app.
        """
        self._phones += 1
        file = self.directory / f"phone-{self._phones}"
        log = file.with_suffix(".log")
        server = f"{self.host.ipv4}:{DEVICE_PORT}"
        key = str(node.organisation.show()["web_push_key"])
        command = [sys.executable, "-m", "ntmobile.lab.push.phone", service, server, str(file)]
        # The app is what it is; the system takes its time.
        app = ["sh", "-c", f'sleep {delay_s}; exec "$@"', "sh"]
        app += [NTM, "wake", "--state", str(node.state)]
        with log.open("w") as out:
            process = node.host.popen([*command, "--key", key, "--", *app], stdout=out, stderr=out)
        wait_until(file.exists, f"a device token of {service}", START_S)
        return Phone(service, file, process, log)

    def expire(self, phone: Phone) -> None:
        """The app is removed from the phone: its token is gone."""
        self._ask(Expire(phone.service, phone.token))

    def fail(
        self, service: str, status: int, times: int = 1, retry_after: str | None = None
    ) -> None:
        """Have the next requests to a service fail."""
        self._ask(Fail(service, status, times, retry_after=retry_after))

    def mend(self, service: str) -> None:
        """Have a service work again."""
        self._ask(Mend(service))

    def counts(self, service: str) -> dict[str, int]:
        """Return what a service answered so far, by status and reason."""
        counts: dict[str, int] = json.loads(self._ask(Counts(service)))
        return counts

    def _ask(self, asked: Expire | Fail | Mend | Counts) -> bytes:
        with self.host.socket(socket.AF_INET, socket.SOCK_STREAM) as link:
            link.settimeout(START_S)
            link.connect((str(self.host.ipv4), DEVICE_PORT))
            link.sendall(msgspec.json.encode(asked) + b"\n")
            with link.makefile("rb") as answer:
                return answer.readline()


def reload(organisation: Organisation) -> None:
    """Have the running servers read their settings again; returns when they have."""
    logs = [organisation.log(roles) for roles in organisation.processes]
    before = [_reloads(log) for log in logs]
    for process in organisation.processes.values():
        os.kill(process.pid, signal.SIGHUP)
    for log, count in zip(logs, before, strict=True):
        wait_until(
            lambda log=log, count=count: _reloads(log) > count,  # type: ignore[misc]
            f"the servers to read their settings again:\n{log.read_text()[-2000:]}",
            START_S,
        )


def _reloads(log: Path) -> int:
    text = log.read_text()
    return text.count("event=reloaded") + text.count("not reloaded")
