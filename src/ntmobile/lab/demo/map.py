"""The demo's map: two organisations, their NATs, and the way between the laptop and the pc."""

from collections.abc import Sequence

from rich.text import Text

from ntmobile.lab.demo.canvas import Canvas, Point, cells
from ntmobile.lab.demo.scene import LAPTOP, NET, ORG, PC, PHONE, TV, Scene, Way, Where

WIDTH, HEIGHT = 76, 12
BUS = 4
"""Row of the internet's line."""
RELAY_AT: Point = (12, 2)
"""Under the RS of the laptop's organisation, which is the one that relays."""
COLUMNS = {Where.HOME: 7, Where.CAFE: 23, Where.INTERNET: 39}
OFFICE, PC_AT = 62, 56
IN_OFFICE = {PC: PC_AT, TV: 64, PHONE: 71}
OFFICE_NAT = "office NAT"
NAT_ROWS = (6, 7, 8)

QUIET = "dim"
COLOURS = {Way.RELAY: "bold yellow", Way.DIRECT: "bold green"}

Line = tuple[Point, ...]


def draw(scene: Scene, beat: int = 0) -> Text:
    """Return the map; a dot runs along the tunnel's way, one cell a beat."""
    canvas = Canvas(WIDTH, HEIGHT)
    canvas.wires(_wiring(scene), QUIET)
    canvas.put((COLUMNS[Where.INTERNET] + 4, BUS), " the internet ", QUIET)
    way = _way(scene)
    if way:
        canvas.wires([way], COLOURS[scene.way or Way.DIRECT], heavy=True)
    _boxes(canvas, scene)
    _nodes(canvas, scene)
    if way and scene.size:
        _dot(canvas, way, beat)
    return canvas.render()


def _wiring(scene: Scene) -> list[Line]:
    lines: list[Line] = [((1, BUS), (WIDTH - 2, BUS)), (RELAY_AT, (RELAY_AT[0], BUS))]
    lines += [((column, BUS), (column, BUS + 1)) for column in (7, 23, OFFICE)]
    lines.append(((OFFICE, 2), (OFFICE, BUS)))
    lines += [((column, 8), (column, 9)) for column in IN_OFFICE.values()]
    if scene.where is not None:
        lines.append(_laptop_wire(scene.where))
    return lines


def _laptop_wire(where: Where) -> Line:
    column = COLUMNS[where]
    return ((column, 9), (column, BUS if where is Where.INTERNET else 8))


def _way(scene: Scene) -> Line:
    """Return the tunnel's way from the laptop to the pc; empty if there is none now."""
    if scene.where is None or scene.way is None:
        return ()
    start, relay = COLUMNS[scene.where], RELAY_AT[0]
    through_rs: Line = ((relay, BUS), (relay, RELAY_AT[1] + 1), (relay, BUS))
    detour = through_rs if scene.way is Way.RELAY else ()
    return ((start, 9), (start, BUS), *detour, (OFFICE, BUS), (OFFICE, 8), (PC_AT, 8), (PC_AT, 9))


def _boxes(canvas: Canvas, scene: Scene) -> None:
    for column, domain in ((1, ORG), (47, NET)):
        style = "bold cyan" if domain in scene.up else QUIET
        canvas.box((column, 0), 28, domain, _servers(scene, domain), style)
    if scene.way is Way.RELAY and scene.where is not None:
        canvas.put((RELAY_AT[0] - 1, 1), "RS", "bold black on yellow")
    for column, width, name in (
        (1, 16, str(Where.HOME)),
        (18, 16, str(Where.CAFE)),
        (52, 23, OFFICE_NAT),
    ):
        used = scene.way is not None and (name in (OFFICE_NAT, scene.where))
        style = COLOURS[scene.way or Way.DIRECT] if used and scene.where else ""
        canvas.box((column, 6), width, name, scene.addresses.get(name, ""), style or QUIET)


def _servers(scene: Scene, domain: str) -> str:
    return f"AS  DC  RS  {scene.addresses.get(domain, '')}"


def _nodes(canvas: Canvas, scene: Scene) -> None:
    for name, column in IN_OFFICE.items():
        canvas.put((column - len(name) // 2, 10), name, "bold" if name in scene.up else QUIET)
    canvas.put((PC_AT - 6, 11), scene.addresses.get(PC, "").center(13), QUIET)
    column = COLUMNS[scene.where] if scene.where else (COLUMNS[Where.CAFE] + 8)
    style = "bold" if LAPTOP in scene.up else QUIET
    canvas.put((column - 2, 10), LAPTOP, style if scene.where else "bold red")
    address = scene.addresses.get(LAPTOP, "") if scene.where else "moving"
    canvas.put((max(0, column - 7), 11), address.center(15), QUIET)


def _dot(canvas: Canvas, way: Sequence[Point], beat: int) -> None:
    # The bytes of the download go from the pc to the laptop.
    path = list(reversed(list(cells(way))))
    column, row = path[beat % len(path)]
    inside_nat = row in NAT_ROWS and column != COLUMNS[Where.INTERNET]
    if not inside_nat:
        canvas.put((column, row), "●", "bold white")
