"""ARP and neighbour discovery of nonsense: a thousand neighbours, lengths that lie, answers that nobody asked for; none in the host's name."""

from scapy.all import ARP, Ether, ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6ND_RA, ICMPv6NDOptDstLLAddr, ICMPv6NDOptMTU, ICMPv6NDOptPrefixInfo, IPv6, Raw

from common import FROM, args, choose, done, raw, send

NETWORK = args.guest[: args.guest.rindex(".")]


def someone():
    """An address of the network that is neither the host's nor the guest's."""
    return f"{NETWORK}.{choose.randrange(10, 250)}"


for turn in range(args.rounds):
    # More neighbours than any cache holds.
    for _ in range(50):
        station = "02:%02x:%02x:%02x:%02x:%02x" % tuple(choose.randrange(256) for _ in range(5))
        send(ARP(op=choose.choice([1, 2]), hwsrc=station, psrc=someone(), pdst=args.guest), station)
    # Somebody has the guest's own address; nobody's; everybody's.
    send(ARP(op=2, hwsrc=FROM, psrc=args.guest, pdst=args.guest, hwdst=args.station))
    send(ARP(op=1, hwsrc=FROM, psrc="0.0.0.0", pdst=args.guest), destination="ff:ff:ff:ff:ff:ff")
    send(ARP(op=2, hwsrc="ff:ff:ff:ff:ff:ff", psrc=someone(), pdst=args.guest))
    send(ARP(op=2, hwsrc="01:00:5e:00:00:01", psrc="255.255.255.255", pdst=args.guest))
    # Other hardware, other protocols, other lengths, other operations, and less than a packet.
    whole = bytes(ARP(op=1, hwsrc=FROM, psrc=someone(), pdst=args.guest))
    for _ in range(10):
        bent = bytearray(whole)
        bent[choose.randrange(8)] = choose.randrange(256)
        length = choose.choice([len(bent), choose.randrange(len(bent))])
        raw(bytes(Ether(src=FROM, dst=args.station, type=0x0806)) + bytes(bent[:length]))
    # Neighbour discovery: options of length 0, of more than there is, advertisements of routers that there are not.
    target = f"fd09::{choose.randrange(16, 65536):x}"
    advert = ICMPv6ND_NA(tgt=target, R=1, S=0, O=1)
    send(IPv6(src=target, dst="fd09::2", hlim=255) / advert / ICMPv6NDOptDstLLAddr(lladdr=FROM))
    send(IPv6(src=target, dst="fd09::2", hlim=choose.choice([0, 1, 254])) / advert)
    for option in (b"\1\0", b"\2\xff" + b"\0" * 6, b"\x0e\1" + b"\0" * 6, b"\1", b"\2\1\0"):
        send(IPv6(src=target, dst="fd09::2", hlim=255) / ICMPv6ND_NS(tgt="fd09::2") / Raw(option))
        send(IPv6(src=target, dst="fd09::2", hlim=255) / advert / Raw(option))
    router = ICMPv6ND_RA(routerlifetime=0xFFFF, chlim=0, reachabletime=1)
    prefix = ICMPv6NDOptPrefixInfo(prefix="fd09::", prefixlen=choose.randrange(256))
    send(IPv6(src="fe80::77", dst="ff02::1", hlim=255) / router / prefix / ICMPv6NDOptMTU(mtu=choose.randrange(1281)))
done()
