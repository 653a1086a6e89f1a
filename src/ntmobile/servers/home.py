"""Which of the domain's servers are at home on this machine.

A domain may be spread over machines that all have the same directory. A server is at home where
one of its addresses is; behind a provider's NAT no address tells, and --roles does.
Ours: docs/protocol.md section 10.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from ntmobile.errors import Remedy
from ntmobile.servers.config import FURTHER, Role, ServerConfig, Site
from ntmobile.wire.endpoint import Host

log = structlog.get_logger()

ORDER = (Role.AS, Role.DC, Role.NS, Role.RS)
STATEFUL = frozenset((Role.AS, Role.DC))
"""Roles that need the store, and share it."""


def at_home(
    settings: ServerConfig,
    roles: Sequence[Role] | None,
    named: Mapping[Role, str],
    is_local: Callable[[Host], bool],
) -> tuple[Site, ...]:
    """Return the servers to run, at most one of a role; raises Remedy when that is none.

    Roles None are those at home here, and all that are at [server] addresses where none is; named
    has the labels of those that are meant where a domain has several RS or NS.
    """
    _refuse_unknown(settings, roles or ())
    sites = list(settings.sites)
    for role, label in named.items():
        _refuse_unknown_label(settings, role, label)
        sites = [site for site in sites if site.role is not role or site.label == label]
    if roles is None:
        local = [site for site in sites if any(map(is_local, site.addresses))]
        chosen = local or [each for each in sites if each.addresses == settings.server.addresses]
        running = _one_a_role(chosen)
        _tell_elsewhere(settings, running)
    else:
        # Where one is at home it is meant; else whichever, if only one can be.
        wanted = [site for site in sites if site.role in roles]
        wanted.sort(key=lambda site: not any(map(is_local, site.addresses)))
        _refuse_ambiguous(wanted, is_local)
        running = _one_a_role(wanted)
    if not running:
        raise Remedy(
            "no server is left to run here: none of the addresses in server.toml is this machine's",
            remedy="say which ones, of as, dc, ns and rs: ntm serve DIR --roles rs",
        )
    return running


def partner_elsewhere(
    settings: ServerConfig, running: Iterable[Site], is_local: Callable[[Host], bool]
) -> Site | None:
    """Return AS or DC where the other one runs here and that one is on another machine."""
    here = {site.role: site.addresses for site in running if site.role in STATEFUL}
    for site in settings.sites:
        if site.role in STATEFUL and site.role not in here and here:
            known_here = site.addresses in here.values() or any(map(is_local, site.addresses))
            return None if known_here else site
    return None


def _refuse_unknown(settings: ServerConfig, roles: Iterable[Role]) -> None:
    configured = dict.fromkeys(site.role for site in settings.sites)
    for role in roles:
        if role not in configured:
            raise Remedy(
                f"{role} is no role of this domain's servers ({', '.join(configured)})",
                remedy="name it in [server] roles in server.toml first",
            )


def _refuse_unknown_label(settings: ServerConfig, role: Role, label: str) -> None:
    labels = [site.label for site in settings.all_of(role)]
    if label not in labels:
        raise Remedy(
            f"{label} is no {role.name} of this domain ({', '.join(labels) or 'it has none'})",
            remedy=f"add it to server.toml first: {example(role, '...')}",
        )


def example(role: Role, label: str) -> str:
    """Return what makes a further server of that role known, in one line."""
    return f'[[{FURTHER[role]}]], name = "{label}", addresses = [...]'


def _refuse_ambiguous(wanted: Sequence[Site], is_local: Callable[[Host], bool]) -> None:
    for role, section in FURTHER.items():
        same = [site for site in wanted if site.role is role]
        if len(same) > 1 and not any(map(is_local, same[0].addresses)):
            labels = ", ".join(site.label for site in same)
            named = f"--roles {role} --{section} {same[-1].label}"
            raise Remedy(
                f"this machine has no address of any {role.name} ({labels}), so it could be each "
                "of them",
                remedy=f"say which one it is: ntm serve DIR {named}",
            )


def _one_a_role(sites: Iterable[Site]) -> tuple[Site, ...]:
    chosen: dict[Role, Site] = {}
    for site in sites:
        chosen.setdefault(site.role, site)
    return tuple(sorted(chosen.values(), key=lambda site: ORDER.index(site.role)))


def _tell_elsewhere(settings: ServerConfig, running: Sequence[Site]) -> None:
    for site in settings.sites:
        if site not in running:
            where = ", ".join(map(str, site.addresses))
            log.info("runs elsewhere", server=settings.host_of(site), at=where)
