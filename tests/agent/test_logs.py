import logging
import subprocess
import sys
from pathlib import Path

from ntmobile.agent.logs import MAX_BYTES, newest_lines
from ntmobile.agent.places import LOG

FILL = """
import os, sys
from pathlib import Path
import structlog
from ntmobile.agent.logs import MAX_BYTES, log_to_file
os.umask(0o022)
log_to_file(Path(sys.argv[1]), debug=False)
log = structlog.get_logger()
for number in range(4):
    log.info("filled", text="x" * (MAX_BYTES // 2), number=number)
log.debug("an address", host="192.0.2.1")
"""


def test_no_log_file_is_for_others_to_read_nor_grows_without_end(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FILL, tmp_path], check=True)

    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [LOG, f"{LOG}.1"]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600, 0o600]
    assert sum(file.stat().st_size for file in files) < 2.5 * MAX_BYTES


def test_the_newest_lines_come_last_and_addresses_not_at_all(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", FILL, tmp_path], check=True)

    [line] = newest_lines(tmp_path, 1)

    assert "number=3" in line
    assert logging.getLevelName(logging.INFO).lower() in line
