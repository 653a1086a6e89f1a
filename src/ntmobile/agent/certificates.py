"""What `ntm` shows of certificates: this node's own, the CAs it believes, whom it refused."""

from datetime import UTC, datetime

from ntmobile.agent.failures import name_failure
from ntmobile.agent.session import Session
from ntmobile.agent.state import State
from ntmobile.agent.views import AuthorityView, CertificateView, RefusedView
from ntmobile.keys.node_certificates import (
    Life,
    authority_name,
    life_of,
    trusted_authorities,
)
from ntmobile.proto.node.credentials import shown_first


def certificate_view(state: State, wall_s: float) -> CertificateView | None:
    """The certificate that peers are shown now; None without one."""
    kept = state.certificates
    der = shown_first(kept.issued, kept.given, wall_s)
    if not der:
        return None
    life = life_of(der)
    return CertificateView(
        issuer=life.issuer,
        begins=_date(life.begins_s),
        ends=_date(life.ends_s),
        given=der == kept.given,
    )


def certificate_troubles(state: State, wall_s: float) -> list[str]:
    """What is wrong with the certificate that peers are shown, by this machine's clock."""
    kept = state.certificates
    der = shown_first(kept.issued, kept.given, wall_s)
    if not der:
        return []
    life = life_of(der)
    if wall_s < life.begins_s:
        return [
            f"this machine's clock says {_date(wall_s)}, and its certificate {_span(life)}: "
            "peers with a right clock believe it, this node believes nobody; "
            "next: set the clock (date, or timedatectl set-ntp true)"
        ]
    if wall_s >= life.ends_s:
        return [
            f"this machine's clock says {_date(wall_s)}, and its certificate {_span(life)}: "
            "peers refuse it; it is renewed once the account server answers; "
            "next: check the clock (date) and the server (ntm status)"
        ]
    return []


def authority_views(state: State) -> tuple[AuthorityView, ...]:
    """Every CA that is believed: those given first."""
    given = [
        AuthorityView(domain=None, fingerprint=authority_name(der))
        for der in trusted_authorities(state.choices.trusted_ca)
    ]
    pinned = [
        AuthorityView(domain=domain, fingerprint=authority_name(der))
        for domain, authorities in sorted(state.certificates.authorities.items())
        for der in authorities
    ]
    return (*given, *pinned)


def refused_views(session: Session) -> tuple[RefusedView, ...]:
    """Peers that were not believed lately."""
    views = []
    for fqdn, reason in session.refusals.items():
        told = name_failure(fqdn, reason)
        detail = f"{told.problem.removeprefix(f'{fqdn}: ')}; next: {told.remedy}"
        views.append(RefusedView(fqdn=fqdn, reason=str(reason), detail=detail))
    return tuple(views)


def _span(life: Life) -> str:
    return f"is good from {_date(life.begins_s)} to {_date(life.ends_s)}"


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
