"""ICMP that lies about the connection that is established (RFC 5927): unreachable, too big, quench, redirect, and quotes of nothing."""

from scapy.all import ICMP, IP, TCP, ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6ParamProblem, IPv6, Raw, UDP

from common import args, choose, done, send


def quoted(sequence):
    """The head of a segment that the guest could have sent on that connection."""
    segment = TCP(sport=args.port, dport=args.peer_port, seq=sequence, ack=choose.randrange(1 << 32), flags="A")
    return IP(src=args.guest, dst=args.host, id=choose.randrange(65536)) / segment


for turn in range(args.rounds):
    routers = [args.host, "10.9.0.77", args.guest, "127.0.0.1"]
    for kind, code in (
        [(3, code) for code in range(16)]
        + [(4, 0), (11, 0), (11, 1), (12, 0), (12, 1)]
        + [(5, code) for code in range(4)]
        + [(kind, 0) for kind in (0, 9, 10, 13, 14, 15, 16, 17, 18, 30, 255)]
    ):
        error = ICMP(type=kind, code=code)
        for inner in (quoted(choose.randrange(1 << 32)), IP(src=args.host, dst=args.guest) / UDP(), Raw(b"")):
            send(IP(src=choose.choice(routers), dst=args.guest) / error / inner)
    # Fragmentation needed, to nothing, to less than a header, to what is no less than before (RFC 1191).
    for mtu in (0, 1, 20, 40, 67, 68, 552, 1500, 65535):
        send(IP(src=args.host, dst=args.guest) / ICMP(type=3, code=4, nexthopmtu=mtu) / quoted(turn))
    # A quote that is cut, that quotes itself, that contradicts its own length.
    whole = bytes(quoted(turn))
    for length in range(0, len(whole), 3):
        send(IP(src=args.host, dst=args.guest) / ICMP(type=3, code=3) / Raw(whole[:length]))
    nested = IP(src=args.guest, dst=args.host) / ICMP(type=3, code=3) / quoted(turn)
    send(IP(src=args.host, dst=args.guest) / ICMP(type=3, code=3) / nested)
    send(IP(src=args.host, dst=args.guest) / ICMP(type=3, code=1) / IP(src=args.guest, dst=args.host, ihl=15, len=7))
    for error in (ICMPv6DestUnreach(code=4), ICMPv6PacketTooBig(mtu=choose.randrange(1281)), ICMPv6ParamProblem()):
        segment = TCP(sport=args.port, dport=args.peer_port)
        send(IPv6(src="fd09::1", dst="fd09::2") / error / IPv6(src="fd09::2", dst="fd09::1") / segment)
done()
