"""Programs that see another time of day, or a time that runs faster. Ours: faketime."""

import subprocess


def at(offset: str) -> list[str]:
    """What to put before a command so that it and its children see another time of day."""
    return [*_faking(offset), "FAKETIME_DONT_FAKE_MONOTONIC=1"]


def faster(times: int) -> list[str]:
    """What to put before a command so that time runs faster for it and its children, pauses too."""
    return _faking(f"+0 x{times}")


def _faking(what: str) -> list[str]:
    # Not by the program faketime, which stays in between and does not pass on a kill.
    asked = subprocess.run(
        ["faketime", "-m", "-f", what, "printenv", "LD_PRELOAD"],
        check=True,
        capture_output=True,
        text=True,
    )
    return ["env", f"LD_PRELOAD={asked.stdout.strip()}", f"FAKETIME={what}"]
