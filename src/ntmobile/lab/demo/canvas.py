"""Lines, boxes and words on a grid of characters, for the demo's map."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from rich.text import Text

Point = tuple[int, int]
"""Column and row, from the upper left corner."""

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
THIN = " │││─┘┐┤─└┌├─┴┬┼"
HEAVY = " ┃┃┃━┛┓┫━┗┏┣━┻┳╋"
"""By the sum of the directions in which lines leave a cell."""


class Canvas:
    """A picture of `width` by `height` characters, each with a style of rich."""

    def __init__(self, width: int, height: int) -> None:
        """Empty at first."""
        self._cells = [[(" ", "")] * width for _ in range(height)]

    def put(self, at: Point, text: str, style: str = "") -> None:
        """Write a line of text, over what is there; what is outside is cut."""
        column, row = at
        for offset, character in enumerate(text):
            if 0 <= column + offset < len(self._cells[row]):
                self._cells[row][column + offset] = (character, style)

    def box(self, at: Point, width: int, title: str, text: str, style: str = "") -> None:
        """Draw a box of three rows with a title in its frame and one line of text inside."""
        column, row = at
        head = f"╭ {title} ".ljust(width - 1, "─") + "╮"
        self.put((column, row), head, style)
        self.put((column, row + 1), f"│ {text}".ljust(width - 1) + "│", style)
        self.put((column, row + 2), "╰" + "─" * (width - 2) + "╯", style)

    def wires(self, lines: Iterable[Sequence[Point]], style: str, *, heavy: bool = False) -> None:
        """Draw lines through their corners; where they meet, they join."""
        joints: dict[Point, int] = {}
        for line in lines:
            for one, other in pairwise(cells(line)):
                joints[one] = joints.get(one, 0) | _direction(one, other)
                joints[other] = joints.get(other, 0) | _direction(other, one)
        for at, joint in joints.items():
            self.put(at, (HEAVY if heavy else THIN)[joint], style)

    def render(self) -> Text:
        """Return the picture."""
        lines = []
        for row in self._cells:
            line = Text(no_wrap=True, end="")
            for character, style in row:
                line.append(character, style)
            lines.append(line)
        return Text("\n").join(lines)


def cells(line: Sequence[Point]) -> Iterator[Point]:
    """Return every cell of a line that is given by its corners."""
    yield line[0]
    for (column, row), (to_column, to_row) in pairwise(line):
        while (column, row) != (to_column, to_row):
            column += (to_column > column) - (to_column < column)
            row += (to_row > row) - (to_row < row)
            yield column, row


def _direction(here: Point, there: Point) -> int:
    if here[0] != there[0]:
        return RIGHT if there[0] > here[0] else LEFT
    return DOWN if there[1] > here[1] else UP
