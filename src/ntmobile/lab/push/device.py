"""The link between push services and devices, and the tests' hand on the services.

Lines of JSON over TCP. A device says one of::

    {"do": "get", "service": "fcm"}                    -> {"token": "..."}
    {"do": "get", "service": "web", "key": "..."}      -> {"token": "...", "endpoint": "https://..."}

and then gets `{"body": base64}` for each push, for as long as it stays. A test says one of::

    {"do": "expire", "service": "apns", "token": "..."}                  the app is removed
    {"do": "fail", "service": "fcm", "status": 503, "times": 3}          the next requests fail
    {"do": "mend", "service": "fcm"}                                     no more
    {"do": "counts", "service": "web"}                                   answers so far
"""

import asyncio
from itertools import count

import msgspec

from ntmobile.lab.push.vendor import Fault, Vendor
from ntmobile.lab.push.web import WebPush
from ntmobile.runtime.tasks import Tasks
from ntmobile.wire.device_token import decode64


class Get(msgspec.Struct, tag_field="do", tag="get"):
    """A device wants a token, and then its messages."""

    service: str
    key: str | None = None
    """Web Push: the server's VAPID key, as `applicationServerKey`."""


class Expire(msgspec.Struct, tag_field="do", tag="expire"):
    """A token ends."""

    service: str
    token: str


class Fail(msgspec.Struct, tag_field="do", tag="fail"):
    """The next requests get this answer."""

    service: str
    status: int
    times: int = 1
    reason: str = ""
    retry_after: str | None = None


class Mend(msgspec.Struct, tag_field="do", tag="mend"):
    """The service works again."""

    service: str


class Counts(msgspec.Struct, tag_field="do", tag="counts"):
    """What was answered so far."""

    service: str


_ASKED = msgspec.json.Decoder(Get | Expire | Fail | Mend | Counts)


class DeviceLink:
    """Serves devices and tests."""

    def __init__(self, fcm: Vendor, apns: Vendor, web: WebPush) -> None:
        """Of these services."""
        self._vendors = {"fcm": fcm, "apns": apns, "web": web.vendor}
        self._web = web
        self._numbers = count(1)
        self._tasks = Tasks()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, to its end."""
        self._tasks.start(self._serve(reader, writer), "device link")

    async def close(self) -> None:
        """Cut every connection."""
        await self._tasks.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = _ASKED.decode(await reader.readline())
            vendor = self._vendors[asked.service]
            match asked:
                case Get():
                    await self._serve_device(vendor, asked, writer)
                case Expire(_, token):
                    vendor.expire(token)
                    await _write(writer, {})
                case Fail():
                    fault = Fault(asked.status, asked.reason, asked.retry_after)
                    vendor.faults.extend([fault] * asked.times)
                    await _write(writer, {})
                case Mend():
                    vendor.faults.clear()
                    await _write(writer, {})
                case Counts():
                    await _write(writer, dict(vendor.counters))
        except (OSError, msgspec.MsgspecError, KeyError):
            pass
        finally:
            writer.close()

    async def _serve_device(self, vendor: Vendor, asked: Get, writer: asyncio.StreamWriter) -> None:
        number = next(self._numbers)
        # An APNs token is a number of 32 bytes, an FCM token a long text.
        token = f"{number:064x}" if asked.service == "apns" else f"lab-device-token-{number:06}"
        if asked.service == "web":
            key = None if asked.key is None else decode64(asked.key)
            endpoint = self._web.subscribe(token, key)
            await _write(writer, {"token": token, "endpoint": endpoint})
        else:
            vendor.add(token)
            await _write(writer, {"token": token})
        async for pushed in vendor.messages(token):
            await _write(writer, {"body": pushed.body})


async def _write(writer: asyncio.StreamWriter, value: object) -> None:
    writer.write(msgspec.json.encode(value) + b"\n")
    await writer.drain()
