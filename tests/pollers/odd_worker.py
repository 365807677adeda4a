"""A client that goes wrong in every way a library can, by what it is asked."""

import os
import signal
import time

from pollers.target import DeviceError

SECRET = "sesame-sesame"


def work(job: bytes) -> bytes:  # noqa: C901
    """What `Workers` runs in a child."""
    match job.decode():
        case "echo":
            return job
        case "refuse":
            raise DeviceError("it does not want to")
        case "break":
            raise KeyError(SECRET)
        case "spin":
            while True:
                pass
        case "deaf":
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            time.sleep(3600)
        case "exit":
            os._exit(3)
        case "eat":
            return bytes(4 << 30)
        case "large":
            return bytes(17 << 20)
        case "much":
            return bytes(9 << 20)
        case _:
            return str(os.getpid()).encode()
    return b""
