import pytest

from ntmobile.runtime.proxy import Proxy, proxy_of_environment


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://192.0.2.1:8080", Proxy("192.0.2.1", 8080)),
        ("proxy.example.org", Proxy("proxy.example.org", 3128)),
        ("http://[2001:db8::1]:80/", Proxy("2001:db8::1", 80)),
        (
            "http://alice:a%3Ab%20c@proxy.example.org",
            Proxy("proxy.example.org", 3128, "alice", "a:b c"),
        ),
    ],
)
def test_a_proxy_is_read_from_its_url(url: str, proxy: Proxy) -> None:
    assert Proxy.parse(url) == proxy


@pytest.mark.parametrize(
    "url", ["https://h:1", "socks5://h:1", "http://", "http://h:1/path", "http://h:99999"]
)
def test_anything_else_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|[Pp]ort"):
        Proxy.parse(url)


def test_the_password_is_never_shown() -> None:
    proxy = Proxy.parse("http://alice:secret@192.0.2.1:8080")

    assert str(proxy) == "http://192.0.2.1:8080"
    assert "secret" not in repr(proxy)


def test_the_environment_names_one_in_either_spelling() -> None:
    proxy = Proxy("h", 1)

    assert proxy_of_environment({"HTTPS_PROXY": "http://h:1"}) == proxy
    assert proxy_of_environment({"https_proxy": "http://h:1", "HTTPS_PROXY": "x://"}) == proxy
    assert proxy_of_environment({"HTTP_PROXY": "http://h:1"}) is None
    assert proxy_of_environment({"HTTPS_PROXY": "socks5://h:1"}) is None
