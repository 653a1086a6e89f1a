import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntmobile.errors import DecodeError
from ntmobile.wire.device_token import (
    MAX_TOKEN,
    ApnsToken,
    DeviceToken,
    FcmToken,
    WebSubscription,
    decode64,
    encode64,
    parse_device_token,
    parse_subscription,
)

pytestmark = pytest.mark.paper("Device Token Request")

PATHS = st.text("abcXYZ019-_/:=?&%", max_size=200)
WEB = st.builds(
    WebSubscription,
    PATHS.map("https://push.example.net:8443/{}".format),
    st.binary(min_size=64, max_size=64).map(b"\x04".__add__),
    st.binary(min_size=16, max_size=16),
)
TOKENS = st.one_of(
    st.text("abcXYZ019_:-", min_size=16, max_size=200).map(FcmToken),
    st.binary(min_size=16, max_size=100).map(bytes.hex).map(ApnsToken),
    WEB,
)
GOOD = {
    "endpoint": "https://push.example.net/1",
    "keys": {"p256dh": encode64(b"\x04" + bytes(64)), "auth": encode64(bytes(16))},
}


@given(TOKENS)
def test_a_token_is_read_back_from_its_text(token: DeviceToken) -> None:
    assert parse_device_token(str(token)) == token


@given(st.text(max_size=MAX_TOKEN + 50))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    try:
        parsed = parse_device_token(text)
    except DecodeError:
        return
    assert parse_device_token(str(parsed)) == parsed


@given(WEB)
def test_what_a_browser_gives_is_read(subscription: WebSubscription) -> None:
    keys = {"p256dh": encode64(subscription.public), "auth": encode64(subscription.secret)}
    json = {"endpoint": subscription.endpoint, "expirationTime": None, "keys": keys}

    assert parse_subscription(msgspec.json.encode(json)) == subscription


@given(st.binary(max_size=100))
def test_base64url_is_read_back(data: bytes) -> None:
    assert decode64(encode64(data)) == data
    assert decode64(encode64(data) + "=" * (-len(encode64(data)) % 4)) == data


@given(st.binary(max_size=300))
def test_noise_is_no_subscription(noise: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_subscription(noise)


@pytest.mark.parametrize(
    "wrong",
    [
        GOOD | {"endpoint": "http://push.example.net/1"},
        GOOD | {"endpoint": "https:///1"},
        GOOD | {"endpoint": "https://user@push.example.net/1"},
        GOOD | {"endpoint": "https://push.example.net/1#x"},
        GOOD | {"endpoint": "https://push.example.net/a b"},
        GOOD | {"endpoint": "https://push.example.net/\r\nHost: x"},
        GOOD | {"endpoint": "https://push.example.net/" + "x" * MAX_TOKEN},
        GOOD | {"keys": {"p256dh": encode64(b"\x04" + bytes(63)), "auth": encode64(bytes(16))}},
        GOOD | {"keys": {"p256dh": encode64(b"\x02" + bytes(64)), "auth": encode64(bytes(16))}},
        GOOD | {"keys": {"p256dh": encode64(b"\x04" + bytes(64)), "auth": "!"}},
        {"endpoint": "https://push.example.net/1"},
    ],
)
def test_a_subscription_that_cannot_be_used_is_refused(wrong: object) -> None:
    assert parse_subscription(msgspec.json.encode(GOOD))

    with pytest.raises(DecodeError):
        parse_subscription(msgspec.json.encode(wrong))


def test_the_secrets_of_a_token_are_not_shown_in_its_representation() -> None:
    for token in (FcmToken("f" * 20), ApnsToken("ab" * 16)):
        assert token.value not in repr(token)
    shown = repr(WebSubscription("https://push.example.net/secret", b"\x04" * 65, b"s" * 16))
    assert "secret" not in shown.replace("secret=", "")
