"""Sends datagrams: `datagrams.py ADDRESS PORT PAUSE`, with a pause in seconds after each.

It is a separate process, so that the measuring process can't delay them.
"""

import socket
import sys
import time


def main() -> None:
    """Sends until it is stopped."""
    address, port, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.connect((address, port))
        while True:
            sender.send(b"now?")
            time.sleep(pause)


if __name__ == "__main__":
    main()
