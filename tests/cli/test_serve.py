"""`ntm serve` as a process: its one line, its signals, and what it says when it cannot run."""

import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest
from tests.ports import free_ports

NTM = [sys.executable, "-c", "from ntmobile.cli.main import main; main()"]
DOMAIN = "ntm.example.org"
LOOPBACK = "127.0.0.1"
PATIENCE_S = 180
"""For a machine that does other things too."""


class Serving:
    """A running `ntm serve`."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.log = directory.parent / f"log-{time.monotonic_ns()}"
        with self.log.open("w") as stderr:
            self.process = subprocess.Popen(
                [*NTM, "serve", str(directory), *arguments],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def await_ready(self) -> None:
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        assert readable, self.log.read_text()
        assert self.process.stdout.readline() == "ready\n", self.log.read_text()

    def await_log(self, event: str) -> None:
        limit = time.monotonic() + PATIENCE_S  # noqa: TID251
        while event not in self.log.read_text():
            assert time.monotonic() < limit, self.log.read_text()  # noqa: TID251

    def end(self, number: signal.Signals) -> int:
        """Exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "servers"
    command = [*NTM, "server", "init", str(path), "--domain", DOMAIN, "--address", LOOPBACK]
    subprocess.run([*command, "--offline"], check=True, capture_output=True, timeout=PATIENCE_S)
    https, udp, relay, dns_port, notification = free_ports(5)
    file = path / "server.toml"
    text = re.sub(r"^https = \d+", f"https = {https}", file.read_text(), flags=re.MULTILINE)
    text = text.replace("udp = 4330", f"udp = {udp}").replace("udp = 4331", f"udp = {relay}")
    text = text.replace("port = 4434", f"port = {notification}")
    file.write_text(text.replace("port = 53", f"port = {dns_port}"))
    return path


@pytest.fixture
def serve(directory: Path) -> Iterator[Callable[..., Serving]]:
    running: list[Serving] = []

    def start(*arguments: str) -> Serving:
        running.append(Serving(directory, *arguments))
        return running[-1]

    yield start
    for each in running:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait()
        assert each.process.stdout is not None
        each.process.stdout.close()


def ask_dns(directory: Path) -> dns.message.Message:
    found = re.search(r"^\[dns\]\nport = (\d+)", (directory / "server.toml").read_text(), re.M)
    assert found is not None
    query = dns.message.make_query(f"{DOMAIN}.", "NS")
    return dns.query.udp(query, LOOPBACK, port=int(found[1]), timeout=PATIENCE_S)


def test_it_says_ready_once_and_stops_when_told(
    directory: Path, serve: Callable[..., Serving]
) -> None:
    serving = serve()
    serving.await_ready()
    assert ask_dns(directory).answer

    assert serving.end(signal.SIGTERM) == 0
    assert serving.process.stdout is not None
    assert serving.process.stdout.read() == ""


def test_a_hang_up_reads_the_settings_again_and_a_wrong_file_keeps_the_old(
    directory: Path, serve: Callable[..., Serving]
) -> None:
    serving = serve()
    serving.await_ready()
    file = directory / "server.toml"

    file.write_text(file.read_text().replace('mode = "listed"', 'mode = "open"'))
    serving.process.send_signal(signal.SIGHUP)
    serving.await_log("federation=open")
    file.write_text(file.read_text().replace('mode = "open"', 'mode = "ajar"'))
    serving.process.send_signal(signal.SIGHUP)
    serving.await_log("not reloaded; the old settings stay")

    assert "federation.mode" in serving.log.read_text()
    assert ask_dns(directory).answer


def test_it_starts_again_after_it_was_killed(
    directory: Path, serve: Callable[..., Serving]
) -> None:
    killed = serve()
    killed.await_ready()
    killed.end(signal.SIGKILL)

    again = serve()
    again.await_ready()

    assert ask_dns(directory).answer


def test_roles_run_in_processes_of_their_own(serve: Callable[..., Serving]) -> None:
    relay = serve("--roles", "rs")
    relay.await_ready()
    assert relay.end(signal.SIGTERM) == 0

    rest = serve("--roles", "as,dc")
    rest.await_ready()


def test_a_taken_port_ends_it_with_what_to_do(
    directory: Path, serve: Callable[..., Serving]
) -> None:
    serve().await_ready()

    second = serve()

    assert second.process.wait(PATIENCE_S) == 1
    said = second.log.read_text()
    assert "ntm: cannot open" in said
    assert "next: stop what uses it" in said
    assert ask_dns(directory).answer


def test_a_log_on_a_full_disk_does_not_end_it(directory: Path) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.Popen(
            [*NTM, "serve", str(directory), "-v"], stdout=subprocess.PIPE, stderr=full, text=True
        )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert ask_dns(directory).answer
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_directory_that_is_none_is_named(tmp_path: Path) -> None:
    command = [*NTM, "serve", str(tmp_path)]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)

    assert ended.returncode == 1
    assert "is not the directory of a server" in ended.stderr
    assert "ntm server init" in ended.stderr
    assert ended.stdout == ""


def test_an_unknown_role_is_wrong_usage(directory: Path) -> None:
    command = [*NTM, "serve", str(directory), "--roles", "dc,xx"]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)

    assert ended.returncode == 2
    assert "xx" in ended.stderr
