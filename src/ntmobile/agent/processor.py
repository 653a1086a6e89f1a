"""What this machine's processor is good at."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


def has_aes(cpuinfo: Path = CPUINFO) -> bool:
    """Whether AES runs in hardware; without it ChaCha20-Poly1305 is several times faster.

    Where the system does not tell, it is taken to: all but small ARM boards do.
    """
    try:
        text = cpuinfo.read_text()
    except OSError:
        return True
    lines = (line.partition(":") for line in text.splitlines())
    flags = [value.split() for name, _, value in lines if name.strip() in ("flags", "Features")]
    return not flags or all("aes" in each for each in flags)
