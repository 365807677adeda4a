"""What systemd wants to hear; nothing happens where it does not listen."""

import os
import socket


def notify(text: str) -> bool:
    """Send "READY=1", "WATCHDOG=1", "STOPPING=1" or "STATUS=text" to NOTIFY_SOCKET; False when nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return False
    return True


def watchdog_s() -> float:
    """Seconds between two WATCHDOG=1: half of what systemd allows; infinite without one."""
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 2e6 if text.isdigit() and int(text) else float("inf")
