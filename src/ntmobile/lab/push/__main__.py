"""`python -m ntmobile.lab.push DIRECTORY NAME ADDRESS`: push services as one process.

Makes DIRECTORY/ca.pem, fcm.json, apns.p8 at its first start and uses them again later, prints
`ready`, and ends at SIGTERM.
"""

import asyncio
import signal
import sys
from ipaddress import ip_address
from pathlib import Path
from random import SystemRandom

from ntmobile.keys.certificates import make_ca, make_server
from ntmobile.lab.push.services import CustomerKeys, PushServices
from ntmobile.runtime.clock import Clock
from ntmobile.runtime.push.fcm import read_service_account
from ntmobile.runtime.push.jwt import p256_key
from ntmobile.wire.endpoint import Host


def main() -> None:
    """Run until SIGTERM."""
    directory, name, address = Path(sys.argv[1]), sys.argv[2], ip_address(sys.argv[3])
    asyncio.run(_run(directory, name, address))


async def _run(directory: Path, name: str, address: Host) -> None:
    if not (directory / "ca.pem").exists():
        _make(directory, name, address)
    tls = directory / "tls.pem"
    services = PushServices(name, tls, tls, _customer(directory), Clock().wall)
    await services.listen(address)
    print("ready", flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await services.close()


def _make(directory: Path, name: str, address: Host) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    entropy, now_s = SystemRandom(), int(Clock().wall())
    ca = make_ca(name, (address,), serial=entropy.getrandbits(158) | 1, now_s=now_s)
    serial = entropy.getrandbits(158) | 1
    server = make_server(ca, (name,), (address,), serial=serial, now_s=now_s)
    customer = CustomerKeys.make()
    (directory / "tls.pem").write_bytes(server.certificate + ca.certificate + server.key)
    (directory / "fcm.json").write_bytes(customer.account_json(f"https://{name}:443/token"))
    (directory / "apns.p8").write_bytes(customer.apns_pem())
    (directory / "ca.pem").write_bytes(ca.certificate)


def _customer(directory: Path) -> CustomerKeys:
    account = read_service_account((directory / "fcm.json").read_bytes())
    return CustomerKeys(account.key, p256_key((directory / "apns.p8").read_bytes()))


if __name__ == "__main__":
    main()
