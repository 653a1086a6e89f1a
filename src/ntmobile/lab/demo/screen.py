"""How the demo tells its story: a live picture on a terminal, plain lines anywhere else."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ntmobile.lab.demo.map import WIDTH, draw
from ntmobile.lab.demo.scene import Scene, Way
from ntmobile.runtime.clock import Clock
from ntmobile.time import SECOND

FRAMES_PER_S = 10
BEATS_PER_S = 25
BARS = "▁▂▃▄▅▆▇█"
LEAST_HEIGHT = 24
"""Rows of a terminal below which the picture would leave no room for words."""


class Screen(AbstractContextManager["Screen"], Protocol):
    """What the story tells its audience; may be called from any thread."""

    def say(self, text: str, style: str = "") -> None:
        """Tell what happened, with the time since the demo began."""

    def show(self, lines: Sequence[str], pause_s: float = 0.0) -> None:
        """Show something drawn, such as a chart, if it fits, with a pause behind each line."""

    def progress(self, text: str) -> None:
        """Tell how far it is, where the picture does not."""


def open_screen(scene: Scene, console: Console, clock: Clock) -> Screen:
    """Return the screen that suits the console."""
    dumb = not console.is_terminal or console.is_dumb_terminal
    if dumb or console.width <= WIDTH or console.height < LEAST_HEIGHT or not _draws(console):
        return PlainScreen(console, clock)
    return LiveScreen(scene, console, clock)


def _draws(console: Console) -> bool:
    return console.encoding.lower().startswith("utf")


class PlainScreen:
    """One line for each thing that happened."""

    def __init__(self, console: Console, clock: Clock) -> None:
        """The demo begins now."""
        self._console = console
        self._clock = clock
        self._began = clock.now()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def say(self, text: str, style: str = "") -> None:
        """Print a line."""
        elapsed = (self._clock.now() - self._began) / SECOND
        self._console.print(self._line(f"{elapsed:5.1f} s  ", Text(text, style)), soft_wrap=True)

    def _line(self, at: str, text: Text) -> RenderableType:
        return Text(at) + text

    def show(self, lines: Sequence[str], pause_s: float = 0.0) -> None:
        """Print the lines as they are, without a pause."""
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)

    def progress(self, text: str) -> None:
        """Print a line."""
        self.say(text)


class LiveScreen(PlainScreen):
    """The words scroll by above the picture."""

    def __init__(self, scene: Scene, console: Console, clock: Clock) -> None:
        """Show the scene as it is at each moment, once entered."""
        super().__init__(console, clock)
        self._scene = scene
        self._spinner = Spinner("dots")
        self._live = Live(
            console=console, refresh_per_second=FRAMES_PER_S, get_renderable=self._picture
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scene.doing = ""
        self._live.stop()

    def _line(self, at: str, text: Text) -> RenderableType:
        # A column of its own, so that long texts go on under their beginning.
        line = Table.grid()
        line.add_row(at, text)
        return line

    def show(self, lines: Sequence[str], pause_s: float = 0.0) -> None:
        """Print the lines if the terminal is wide enough for them."""
        wanted = max(map(len, lines), default=0)
        if wanted > self._console.width:
            self.say(f"(in a terminal of {wanted} columns a chart of it stands here)", "dim")
            return
        for line in lines:
            super().show([line])
            time.sleep(pause_s)

    def progress(self, text: str) -> None:
        """Nothing: the picture has it."""

    def _picture(self) -> RenderableType:
        scene = self._scene
        beat = self._clock.now() * BEATS_PER_S // SECOND
        self._spinner.update(text=scene.doing)
        waiting = self._spinner if scene.doing else Text("")
        inside = Group(draw(scene, beat), Text(""), meters(scene), waiting)
        return Panel(inside, width=WIDTH + 4, border_style="dim")


def meters(scene: Scene) -> Table:
    """Return the graphs of the download and of the round trips."""
    grid = Table.grid(padding=(0, 1))
    for width in (10, None, 17):
        grid.add_column(width=width, no_wrap=True)
    done = ProgressBar(total=max(scene.size, 1), completed=scene.received, width=44)
    grid.add_row("download", done if scene.size else Text(""), _amount(scene))
    rates: Sequence[float | None] = list(scene.rates)
    grid.add_row("", Text(spark(rates), "cyan"), _rate(scene))
    grid.add_row("ping", Text(spark(list(scene.rtts_ms)), _colour(scene)), _rtt(scene))
    return grid


def spark(values: Sequence[float | None]) -> str:
    """Return a column for each value, as high as it is compared to the largest; `!` for none."""
    top = max((value for value in values if value is not None), default=0.0) or 1.0
    return "".join(_bar(value, top) for value in values)


def _bar(value: float | None, top: float) -> str:
    if value is None:
        return "!"
    return BARS[min(len(BARS) - 1, int(value / top * len(BARS)))]


def _amount(scene: Scene) -> str:
    if not scene.size:
        return ""
    return f"{scene.received / 1e6:.0f} of {scene.size / 1e6:.0f} MB"


def _rate(scene: Scene) -> str:
    return f"{scene.rates[-1] / 1e6:.1f} MB/s" if scene.rates else ""


def _rtt(scene: Scene) -> str:
    if not scene.rtts_ms:
        return ""
    newest = scene.rtts_ms[-1]
    how = f" {scene.way}" if scene.way else ""
    return "no answer" if newest is None else f"{newest:.1f} ms{how}"


def _colour(scene: Scene) -> str:
    return "yellow" if scene.way is Way.RELAY else "green"
