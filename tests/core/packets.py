"""Inner packets, made and taken apart byte by byte."""

import struct
from dataclasses import dataclass
from ipaddress import ip_address

UDP = 17


@dataclass(frozen=True)
class InnerDatagram:
    """An inner UDP datagram; reading one asserts that its checksums are right."""

    source: str
    destination: str
    payload: bytes

    @classmethod
    def read(cls, packet: bytes) -> "InnerDatagram":
        source, destination, upper = taken_apart(packet)
        assert checksum(pseudo(source, destination, len(upper)) + upper) == 0
        return cls(named(source), named(destination), upper[8:])


def udp(source: str, destination: str, payload: bytes = b"", *, may_fragment: bool = True) -> bytes:
    """An IPv4 or IPv6 packet from port 5000 to port 6000."""
    ends = packed(source), packed(destination)
    header = struct.pack("!HHHH", 5000, 6000, 8 + len(payload), 0)
    total = checksum(pseudo(*ends, len(header + payload)) + header + payload)
    upper = header[:6] + struct.pack("!H", total or 0xFFFF) + payload
    if len(ends[0]) == 16:
        fixed = struct.pack("!IHBB", 6 << 28, len(upper), UDP, 64)
        return fixed + b"".join(ends) + upper
    return ipv4(*ends, len(upper), 0 if may_fragment else 0x4000) + upper


def ipv4(source: bytes, destination: bytes, length: int, flags: int) -> bytes:
    first = struct.pack("!BBHHHBB", 0x45, 0, 20 + length, 1, flags, 64, UDP)
    ends = source + destination
    return first + struct.pack("!H", checksum(first + bytes(2) + ends)) + ends


def taken_apart(packet: bytes) -> tuple[bytes, bytes, bytes]:
    """Source, destination and upper layer of a packet whose lengths are right."""
    if packet[0] >> 4 == 6:
        assert len(packet) == 40 + int.from_bytes(packet[4:6])
        return packet[8:24], packet[24:40], packet[40:]
    assert len(packet) == int.from_bytes(packet[2:4])
    assert checksum(packet[:20]) == 0
    return packet[12:16], packet[16:20], packet[20:]


def pseudo(source: bytes, destination: bytes, length: int) -> bytes:
    return source + destination + struct.pack("!II", length, UDP)


def checksum(data: bytes) -> int:
    """RFC 1071; 0 over data that holds its own checksum."""
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packed(address: str) -> bytes:
    return ip_address(address).packed


def named(address: bytes) -> str:
    return str(ip_address(address))
