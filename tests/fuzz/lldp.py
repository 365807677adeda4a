"""Coverage-guided fuzzing of what an LLDP neighbour can send: `python tests/fuzz/lldp.py -runs=100000 [CORPUS]`.

The first byte chooses: a frame, one behind a sound head, lldpd's JSON; each also through a redacted capture.
"""

import json
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["collectors", "machine", "wire"]):
    from collectors.lldp_daemon import parse_neighbours
    from collectors.lldp_frame import parse_frame
    from machine import MachineError, lldp_public
    from machine.disguise import Disguise
    from tests.collectors.lldp_frames import frame, harmless

DISGUISE = Disguise(b"salt")
HEAD = frame()[:-2]


def fuzz_frame(raw: bytes) -> None:
    """A neighbour or none, and the same of its redacted frame."""
    found = parse_frame(raw)
    assert found is None or harmless(found)
    redacted = parse_frame(lldp_public.frame(raw, DISGUISE))
    assert (redacted is None) == (found is None)


def fuzz_json(text: str) -> None:
    """Neighbours or one error, also of the redacted text."""
    for said in (text, lldp_public.answer(text, DISGUISE)):
        try:
            found = parse_neighbours(said)
        except MachineError:
            continue
        assert all(harmless(one) for one in found)


def one_input(data: bytes) -> None:
    """What atheris calls; an exception is a finding."""
    kind, body = data[:1], data[1:]
    if kind < b"\x55":
        fuzz_frame(body)
    elif kind < b"\xaa":
        fuzz_frame(HEAD + body)
    else:
        text = body.decode(errors="replace")
        fuzz_json(text)
        fuzz_json(json.dumps({"lldp": [{"interface": [{"name": "e", "port": {"id": {"value": text}}}]}]}))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
