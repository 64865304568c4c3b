"""Options of IPv4 and of TCP: source routes, records of routes, time stamps, security, lengths that lie; and headers that are nothing else."""

import struct

from scapy.all import (
    ICMP,
    IP,
    TCP,
    UDP,
    Ether,
    IPOption_LSRR,
    IPOption_RR,
    IPOption_Router_Alert,
    IPOption_SSRR,
    IPOption_Timestamp,
    Raw,
)
from scapy.utils import checksum

from common import FROM, args, choose, done, raw, send

ROUTE = [args.host, "127.0.0.1", args.guest, "255.255.255.255"]


def with_options(options, payload):
    """A packet with options of any bytes, padded to words: scapy would put them right."""
    options = (options + b"\0" * (-len(options) % 4))[:40]
    built = bytes(IP(src=args.host, dst=args.guest) / payload)
    head = bytearray(built[:20])
    head[0] = 0x45 + len(options) // 4
    head[2:4] = struct.pack(">H", len(built) + len(options))
    head[10:12] = b"\0\0"
    head[10:12] = struct.pack(">H", checksum(bytes(head) + options))
    raw(bytes(Ether(src=FROM, dst=args.station, type=0x0800)) + bytes(head) + options + built[20:])


for turn in range(args.rounds):
    syn = TCP(sport=choose.randrange(1024, 65536), dport=args.port, flags="S", seq=choose.randrange(1 << 32))
    for payload in (ICMP() / Raw(b"options"), UDP(sport=9, dport=9) / Raw(b"options"), syn):
        for option in (
            IPOption_LSRR(routers=ROUTE[: choose.randrange(1, 4)]),
            IPOption_SSRR(routers=ROUTE[: choose.randrange(1, 4)]),
            IPOption_LSRR(routers=ROUTE, pointer=choose.randrange(256)),
            IPOption_RR(routers=["0.0.0.0"] * 8),
            IPOption_RR(routers=[], pointer=255),
            IPOption_Timestamp(flg=choose.randrange(16)),
            IPOption_Router_Alert(),
        ):
            send(IP(src=args.host, dst=args.guest, options=[option]) / payload)
        # Kinds and lengths of anything: none, beyond the header, too short for themselves.
        for _ in range(8):
            with_options(bytes(choose.randrange(256) for _ in range(choose.randrange(1, 41))), payload)
        with_options(bytes([choose.choice([7, 68, 131, 137]), choose.choice([0, 1, 2, 3, 40, 255])]), payload)
    # TCP's: an MSS of nothing, a window scale of 255, lengths 0, 1 and 255, an offset behind the end, and all 40 bytes of noise.
    for options in (
        [("MSS", 0)],
        [("MSS", 1), ("WScale", 255)],
        [("MSS", 65535), ("SAckOK", b""), ("Timestamp", (0xFFFFFFFF, 0))],
    ):
        send(IP(src=args.host, dst=args.guest) / TCP(sport=syn.sport, dport=args.port, flags="S", options=options))
    for _ in range(8):
        noise = bytes(choose.randrange(256) for _ in range(40))
        segment = TCP(sport=choose.randrange(1024, 65536), dport=args.port, flags=choose.randrange(512), dataofs=15)
        send(IP(src=args.host, dst=args.guest) / segment / Raw(noise))
        # Into the established connection, its sequence number not known.
        inside = TCP(sport=args.peer_port, dport=args.port, flags=choose.randrange(512), seq=choose.randrange(1 << 32))
        send(IP(src=args.host, dst=args.guest) / inside / Raw(noise))
        send(IP(src=args.host, dst=args.guest) / TCP(dport=args.port, dataofs=choose.randrange(16)) / Raw(noise[:8]))
done()
