"""Coverage-guided fuzzing of what firmware and logs say: `python tests/fuzz/underneath.py -runs=100000 [CORPUS]`.

The first byte chooses: a configuration space, devlink's answer, a boot line, records of machine checks, error counts.
"""

import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["collectors", "machine", "wire"]):
    from collectors import cmdline, firmware, interrupts, mcerecord, pcie, trust, watchdog
    from machine import MachineError, devlink, pciconfig

HEAD = b"\x86\x80\x01\x10\x07\x00\x10\x00" + bytes(44) + b"\x40" + bytes(11)  # a function that has capabilities


def fuzz_config(raw: bytes) -> None:
    """Registers or none, the same ones after the serial number is gone."""
    for config in (raw, HEAD + raw, (HEAD + raw)[:256].ljust(256, b"\0") + raw):
        public = pciconfig.without_serial(config)
        assert len(public) == len(config)
        pciconfig.parse_express(config)


def fuzz_devlink(raw: bytes) -> None:
    """Rows or one clear error."""
    try:
        info = devlink.parse_info(raw)
        again = devlink.parse_info(devlink.public(raw, lambda word: "x" * len(word)))
    except MachineError:
        return
    assert firmware.describe(info) == firmware.describe(again)
    assert all(row.key.isprintable() and row.running.isprintable() for row in firmware.describe(info))


def fuzz_cmdline(text: str) -> None:
    """Parameters of the table, printable."""
    fact = cmdline.described(cmdline.parse_cmdline(text))
    assert set(fact.effective) == set(fact.given) <= set(cmdline.PARAMETERS)
    assert all(value.isprintable() for values in fact.given.values() for value in values)


def fuzz_texts(text: str) -> None:
    """Numbers within their registers' width, or nothing."""
    for record in mcerecord.parse_records(text):
        assert mcerecord.parse_status(record.status).error.isprintable()
    interrupts.parse_named(text)
    interrupts.parse_named("CPU0 CPU1\n" + text)
    assert all(count >= 0 for count in pcie.parse_errors(text).values())
    trust.parse_taint(text)
    trust.parse_microcode(text)
    watchdog.parse_causes(text)
    firmware.parse_place(text)


def one_input(data: bytes) -> None:
    """What atheris calls; an exception is a finding."""
    kind, body = data[:1], data[1:]
    if kind < b"\x40":
        fuzz_config(body)
    elif kind < b"\x80":
        fuzz_devlink(body)
    elif kind < b"\xc0":
        fuzz_cmdline(body.decode(errors="replace"))
    else:
        fuzz_texts(body.decode(errors="replace"))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
