"""The process that carries an impaired wire: ``python -m ntmobile.lab.link``.

It reads commands from its standard input, one JSON array a line, and answers each by
one JSON object a line: ``["set", way, settings]`` by an empty one, ``["statistics",
way]`` by the numbers. An empty one at the start says that the TAP device exists. It
ends with its input.
"""

import json
import sys

from ntmobile._core import Link


def main() -> None:
    """Carry packets between an interface and a new TAP device: INTERFACE TAP SEED."""
    interface, tap, seed = sys.argv[1:]
    link = Link(interface, tap, seed=int(seed))
    answer({})
    for line in sys.stdin:
        verb, way, *settings = json.loads(line)
        if verb == "set":
            link.set(way, **settings[0])
            answer({})
        else:
            answer(link.statistics(way))
    link.close()


def answer(value: dict[str, int]) -> None:
    """Write one line."""
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
