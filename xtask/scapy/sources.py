"""Senders that cannot be: LAND (the guest itself), broadcast, multicast, loopback, nobody; and answers that would go to everybody."""

from scapy.all import ICMP, IP, TCP, UDP, ICMPv6EchoRequest, IPv6, Raw

from common import FROM, args, choose, done, send

NOBODY = [args.guest, "127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1", args.guest[: args.guest.rindex(".")] + ".255"]
STATIONS = [FROM, args.station, "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"]

for turn in range(args.rounds):
    for source in NOBODY:
        for station in STATIONS:
            port = choose.choice([args.port, 7, 9])
            # LAND: both ends are the same, ports and all.
            send(IP(src=source, dst=args.guest) / TCP(sport=port, dport=port, flags="S", seq=turn), station)
            send(IP(src=source, dst=args.guest) / TCP(sport=port, dport=port, flags="SA", seq=turn, ack=turn), station)
            # An echo to oneself, a chargen loop, a smurf.
            send(IP(src=source, dst=args.guest) / ICMP() / Raw(b"who asks"), station)
            send(IP(src=source, dst=args.guest) / UDP(sport=7, dport=7) / Raw(b"and again"), station)
    for destination in NOBODY[1:]:
        for station in (args.station, "ff:ff:ff:ff:ff:ff"):
            send(IP(src=args.host, dst=destination) / ICMP() / Raw(b"everybody"), destination=station)
            send(IP(src=args.host, dst=destination) / TCP(dport=args.port, flags="S"), destination=station)
            send(IP(src=args.host, dst=destination) / UDP(dport=53) / Raw(b"everybody"), destination=station)
    for source in ("::", "::1", "ff02::1", "fd09::2"):
        for destination in ("fd09::2", "ff02::1", "ff02::1:ff00:2"):
            send(IPv6(src=source, dst=destination) / ICMPv6EchoRequest(data=b"who asks"))
            send(IPv6(src=source, dst=destination) / TCP(sport=args.port, dport=args.port, flags="S"))
done()
