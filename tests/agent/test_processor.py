from pathlib import Path

import pytest

from ntmobile.agent.processor import has_aes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu aes sse2\n", True),
        ("processor\t: 0\nflags\t\t: fpu sse2\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd aes pmull\n", True),
        ("processor\t: 0\nFeatures\t: half thumb neon\n", False),
        ("flags : aes\nflags : fpu\n", False),
        ("nothing known\n", True),
    ],
    ids=["PC", "old PC", "ARM", "small ARM", "one core lacks it", "no word"],
)
def test_the_processor_says_whether_it_has_aes(tmp_path: Path, text: str, expected: bool) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text(text)

    assert has_aes(told) is expected


def test_where_nothing_is_told_it_is_taken_to(tmp_path: Path) -> None:
    assert has_aes(tmp_path / "absent")
