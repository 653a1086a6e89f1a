"""Servers as a person names them."""

from urllib.parse import urlsplit

HTTPS_PORT = 443


def parse_url(url: str) -> tuple[str, int]:
    """Return host and port of https://HOST[:PORT], or of HOST[:PORT]; raises ValueError."""
    parts = urlsplit(url if "//" in url else f"https://{url}")
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(f"{url!r} is not https://HOST or https://HOST:PORT")
    if parts.path not in ("", "/") or parts.query or parts.username:
        raise ValueError(f"{url!r} has more than a host and a port")
    return parts.hostname, parts.port or HTTPS_PORT
