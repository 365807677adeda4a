"""Roots of our XDP programs as their keeper sees them: a heartbeat each, and a list of what manages this host."""

import contextlib
import os
import time
from collections.abc import Collection, Generator

from machine import Machine, NotPresentError, bpf, xdp, xdp_values
from wire.flowrule import Flow

_BEAT = xdp_values.number(xdp_values.BEAT)


class Roots:
    """The maps of every root on an interface of this network namespace, by id: what is gone falls out by itself."""

    def __init__(self) -> None:
        self._pulses: set[int] = set()
        self._lists: set[int] = set()
        self._newest = 0

    def __bool__(self) -> bool:
        return bool(self._pulses)

    def has_new_maps(self) -> bool:
        """True when somebody made a map since the last call; one system call when nobody did. Raises MachineError."""
        last = self._newest
        while (number := bpf.next_map(self._newest)) is not None:
            self._newest = number
        return self._newest != last

    def find(self, machine: Machine) -> bool:
        """Look at every interface; True when a root was found that was not known. Raises MachineError."""
        known = set(self._pulses)
        for attached in xdp.read_attached(machine).values():
            if attached.program and xdp.is_ours(attached.program):
                with contextlib.suppress(NotPresentError), xdp.held(attached.program) as ours:
                    self._pulses |= {ours.ids[name] for name in ("rh_pulse",) if name in ours.ids}
                    self._lists |= {ours.ids[name] for name in ("rh_keep",) if name in ours.ids}
        return self._pulses != known

    def feed(self) -> None:
        """Say to every root that its keeper lives. Raises MachineError."""
        for number in sorted(self._pulses):
            with _open(number, self._pulses) as handle:
                if handle is not None:
                    bpf.update(handle, _BEAT, time.clock_gettime_ns(time.CLOCK_BOOTTIME).to_bytes(8, "little"))

    def keep(self, flows: Collection[Flow], *, forget: bool = True) -> None:
        """Make these what is never dropped; with `forget`, these alone. Raises MachineError."""
        wanted = {xdp_values.flow_key(flow) for flow in flows}
        for number in sorted(self._lists):
            with _open(number, self._lists) as handle:
                if handle is None:
                    continue
                there = set(bpf.keys(handle, xdp_values.FLOW_BYTES))
                for key in sorted(wanted - there):
                    bpf.update(handle, key, bytes(4))
                for key in sorted(there - wanted if forget else ()):
                    bpf.delete(handle, key)


@contextlib.contextmanager
def _open(number: int, known: set[int]) -> Generator[int | None]:
    """The map's descriptor; None, and it is no longer known, when it is gone."""
    try:
        handle = bpf.map_by_id(number)
    except NotPresentError:
        known.discard(number)
        yield None
        return
    try:
        yield handle
    finally:
        os.close(handle)
