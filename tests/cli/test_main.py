import subprocess
import sys
from pathlib import Path

import pytest

NTM = str(Path(sys.executable).with_name("ntm"))


def test_help_lists_the_commands_of_servers() -> None:
    done = ntm("--help")

    assert done.returncode == 0
    assert {"server", "admin"} <= set(done.stdout.split())


@pytest.mark.parametrize("words", [("nonsense",), ("server", "nonsense"), ("server", "show")])
def test_wrong_usage_is_2(words: tuple[str, ...]) -> None:
    done = ntm(*words)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_failure_is_1_and_says_what_to_do_next(tmp_path: Path) -> None:
    done = ntm("server", "show", str(tmp_path))

    assert done.returncode == 1
    assert done.stdout == ""
    assert "next: ntm server init" in done.stderr


def test_a_command_of_servers_does_not_import_the_agent(tmp_path: Path) -> None:
    program = (
        "import sys; sys.argv = ['ntm', 'server', 'show', 'x']\n"
        "from ntmobile.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('ntmobile.agent.agent' in sys.modules, 'ntmobile.cli.server' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert done.stdout == "False True\n"


def ntm(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [NTM, *words], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
