"""docs/sequences.md shows what the code does."""

import subprocess
import sys
from pathlib import Path

CHARTS = Path(__file__).parents[2] / "scripts" / "charts"


def test_the_charts_in_the_documentation_are_those_the_simulator_prints() -> None:
    done = subprocess.run(
        [sys.executable, str(CHARTS), "--check"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
