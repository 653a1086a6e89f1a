"""A browser as people have it, Debian's headless Chromium, and a page to look at with it.

``browser.py PORT`` serves the page; what its scripts log comes out of the browser's standard error.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from ntmobile.lab.errors import LabError
from ntmobile.lab.host import Host
from ntmobile.lab.waiting import wait_until

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
PACE_MS = 50
PATIENCE_S = 120.0
PAGE = """<!doctype html><title>hello</title><script>
const say = text => console.log('page: ' + text);
say('loaded ' + document.title + ' from ' + location.host);
const socket = new WebSocket('ws://' + location.host + '/echo');
let number = 0;
socket.onopen = () => socket.send('0');
socket.onmessage = event => { say('echo ' + event.data); setTimeout(
    () => socket.send(String(++number)), %d); };
socket.onclose = () => say('closed');
</script>"""
SAID = re.compile(r'CONSOLE.*"page: (.*)", source')


class Browser:
    """One page in a browser without rights; lives until `close`."""

    def __init__(self, host: Host, profile: Path, proxy: str, url: str) -> None:
        """Its sandbox is off: that needs rights which the lab's machine may not give."""
        assert CHROMIUM is not None
        profile.mkdir()
        profile.chmod(0o777)
        flags = ["--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        flags += ["--remote-debugging-port=0", f"--user-data-dir={profile}/data"]
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        command = ["env", f"HOME={profile}", *nobody, "--bounding-set=-all", CHROMIUM, *flags]
        self._log = profile / "log"
        with self._log.open("w") as log:
            self._process = host.popen(
                [*command, f"--proxy-server={proxy}", url],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        self._heard = 0

    def hear(self) -> str:
        """Return what the page says next; what the browser itself says is passed over."""
        return self._hear(1)[0]

    def hear_echoes(self, count: int) -> list[int]:
        """Return the numbers that come back over the WebSocket."""
        said = self._hear(count)
        assert all(each.startswith("echo ") for each in said), said
        return [int(each.split()[1]) for each in said]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _hear(self, count: int) -> list[str]:
        wanted = self._heard + count
        try:
            wait_until(lambda: len(self._said()) >= wanted, "the page", PATIENCE_S)
        except LabError as error:
            raise LabError(f"{error}; the browser says:\n{self._log.read_text()}") from error
        said = self._said()[self._heard : wanted]
        self._heard = wanted
        return said

    def _said(self) -> list[str]:
        return SAID.findall(self._log.read_text())


async def page(request: Request) -> HTMLResponse:
    """The page."""
    return HTMLResponse(PAGE % PACE_MS)


async def echo(socket: WebSocket) -> None:
    """Send back what comes."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)


if __name__ == "__main__":
    app = Starlette(routes=[Route("/", page), WebSocketRoute("/echo", echo)])
    uvicorn.run(app, host="0.0.0.0", port=int(sys.argv[1]), log_level="error")
