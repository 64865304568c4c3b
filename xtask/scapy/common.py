"""What the scripts share: their arguments, one socket on the tap, and a count at the end.

Each script sends frames that no honest stack would, to the guest, and prints how many. It expects no particular answer: what the guest owes
is that an honest transfer beside it goes on. Random choices come from a seed, so that a run can be repeated.
"""

import argparse
import logging
import random
import time

logging.getLogger("scapy").setLevel(logging.CRITICAL)

from scapy.all import Ether, conf  # noqa: E402

_parser = argparse.ArgumentParser()
_parser.add_argument("--interface", required=True)
_parser.add_argument("--guest", required=True, help="the guest's IPv4 address")
_parser.add_argument("--station", required=True, help="the guest's station address")
_parser.add_argument("--host", required=True, help="the host's address on that link")
_parser.add_argument("--port", type=int, required=True, help="the guest's port of a connection that is established")
_parser.add_argument("--peer-port", type=int, required=True, help="and the host's")
_parser.add_argument("--seed", type=int, default=1)
_parser.add_argument("--rounds", type=int, default=20)
args = _parser.parse_args()

choose = random.Random(args.seed)
_socket = conf.L2socket(iface=args.interface)
_sent = 0
FROM = "02:00:00:00:00:55"


def send(packet, source=FROM, destination=None):
    """Sends one packet in a frame."""
    raw(bytes(Ether(src=source, dst=destination or args.station) / packet))


def raw(frame):
    """Sends these bytes, cut to what a link carries; a full queue of the tap is waited for."""
    global _sent
    for _ in range(100):
        try:
            _socket.outs.send(frame[:1514])
            break
        except OSError:
            time.sleep(0.001)
    _sent += 1
    if _sent % 16 == 0:
        time.sleep(0.001)


def done():
    """The last line, which the caller looks for."""
    print(f"sent {_sent} frames")
