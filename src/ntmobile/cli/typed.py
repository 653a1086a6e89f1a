"""What was typed belongs to what is told to be run next: the state, the servers, the trust.

`ntm --state DIR status` that finds no agent says `ntm --state DIR up`: without the directory the
command would start another node. What came by the environment is there for the next command too.
"""

import re
import shlex
from collections.abc import Mapping
from typing import Any

NODE_WORDS = (
    "up|down|logout|status|ping|wait|peers|keys|trace|handovers|whois|bugreport|netcheck|wake|"
    "proxy|expose|set|dns|service"
)
_NODE = re.compile(rf"\bntm (?=({NODE_WORDS})\b)")
_ADMIN = re.compile(r"\bntm admin (?!--server)")
_LOGIN = re.compile(r"\bup (\S+@[^\s,;]+)")
_ELSEWHERE = re.compile(r"\bthere\b|\bon that node\b")
"""From here on a remedy is about another machine."""
LOGIN = ("--name", "--as", "--ca", "--fingerprint")
"""What a first login is told, and nothing remembers when it fails."""


def typed(context: Any) -> dict[str, str]:  # noqa: ANN401 -- typer has a type of its own for each
    """Return the options that were typed, of a typer.Context and of those above it, by name."""
    found: dict[str, str] = {}
    while context is not None:
        for parameter in context.command.params:
            source = context.get_parameter_source(parameter.name)
            if source is not None and source.name == "COMMANDLINE":
                for option in parameter.opts:
                    found.setdefault(option, str(context.params.get(parameter.name)))
        context = context.parent
    return found


def completed(remedy: str, given: Mapping[str, str]) -> str:
    """Return a remedy whose commands are for the node and the servers that options name."""
    elsewhere = _ELSEWHERE.search(remedy)
    end = elsewhere.start() if elsewhere else len(remedy)
    return _completed(remedy[:end], given) + remedy[end:]


def _completed(text: str, given: Mapping[str, str]) -> str:
    login = _LOGIN.search(text)
    if login is not None:
        options = _options(given, *(each for each in LOGIN if f"{each} " not in text))
        text = text[: login.end()] + options + text[login.end() :]
    state = _options(given, "--state")
    if state:
        text = _NODE.sub(lambda found: f"ntm{state} ", text)
    server = _options(given, "--server")
    return _ADMIN.sub(lambda found: f"ntm admin{server} ", text) if server else text


def _options(given: Mapping[str, str], *names: str) -> str:
    return "".join(f" {each} {shlex.quote(given[each])}" for each in names if each in given)
