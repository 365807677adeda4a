"""A poll over IPMI as the worker's child does it, which also says what it cost: the worker of `bench.bmc`."""

import os
import time

import msgspec

from bench.procs import smaps_mib
from pollers import ipmi_read
from pollers.bmc_job import ANSWER


class Cost(msgspec.Struct):
    """Of one child."""

    cpu_ms: float
    private_mib: float  # pages that it shares with nobody


def work(message: bytes) -> bytes:
    """As `ipmi_read.work`, the cost in the answer's text."""
    answer = ANSWER.decode(ipmi_read.work(message))
    private = smaps_mib(os.getpid(), "Private_Dirty") + smaps_mib(os.getpid(), "Private_Clean")
    answer.text = msgspec.json.encode(Cost(time.process_time() * 1000, private)).decode()
    return msgspec.msgpack.encode(answer)
