"""Coverage-guided fuzzing of what an SNMP device can send: `python tests/fuzz/snmp.py -runs=100000 [CORPUS]`.

Cells of the columns that a plan asks for, in every type SNMP has, become facts and numbers or nothing; the plan is one
of the profiles' that come with the program. The bytes of the datagrams are gufo_snmp's to decode.
"""

import math
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).parents[2]))
with atheris.instrument_imports(include=["pollers", "wire"]):
    from pollers import lldp_mib
    from pollers.meaning import Index, Value, device, mean
    from pollers.profile import Plan, choose, profiles
    from wire.codec import encode
    from wire.facts import FACT, Fact

PLANS = [choose(one.match[0] if one.match else "") for one in profiles()]
LONGEST = 255


def columns_of(plan: Plan) -> list[str]:
    """What the plan asks for, and LLDP-MIB."""
    found = {one.oid for table in plan.tables for several in table.samples.values() for one in several}
    found |= {one.oid for table in plan.tables for several in table.fields.values() for one in several}
    found |= {one.type for table in plan.tables for several in table.samples.values() for one in several}
    found |= {one.decimals for table in plan.tables for several in table.samples.values() for one in several}
    return [*sorted(found - {""}), *lldp_mib.COLUMNS]


COLUMNS = [columns_of(plan) for plan in PLANS]


def value(data: "atheris.FuzzedDataProvider") -> Value:
    """One of SNMP's types, as gufo_snmp hands it over."""
    kind = data.ConsumeIntInRange(0, 5)
    if kind == 0:
        return int(data.ConsumeIntInRange(-3, 100))
    if kind == 1:
        return int(data.ConsumeInt(8))
    if kind == 2:
        return float(data.ConsumeFloat())
    if kind == 3:
        return bytes(data.ConsumeBytes(data.ConsumeIntInRange(0, 300)))
    if kind == 4:
        return str(data.ConsumeUnicodeNoSurrogates(data.ConsumeIntInRange(0, 60)))
    return None


def harmless(fact: Fact) -> bool:
    """Travels, and can be shown."""
    said = {name: getattr(fact, name) for name in fact.__struct_fields__}
    texts = [text for text in said.values() if isinstance(text, str)]
    return FACT.decode(encode(fact)) == fact and all(text.isprintable() and len(text) <= LONGEST for text in texts)


def one_input(raw: bytes) -> None:
    """What atheris calls; an exception is a finding."""
    data = atheris.FuzzedDataProvider(raw)
    number = data.ConsumeIntInRange(0, len(PLANS) - 1)
    plan, known = PLANS[number], COLUMNS[number]
    columns: dict[str, dict[Index, Value]] = {}
    while data.remaining_bytes() and sum(map(len, columns.values())) < 200:
        oid = known[data.ConsumeIntInRange(0, len(known) - 1)]
        length = data.ConsumeIntInRange(1, 8)
        index = tuple(int(data.ConsumeIntInRange(0, 25)) for _ in range(length))
        columns.setdefault(oid, {})[index] = value(data)
    found = mean(plan, columns)
    wrong = [fact for fact in found.facts if not harmless(fact)]
    assert not wrong, repr(wrong)
    assert all(math.isfinite(one.value) and one.key.isprintable() for one in found.measured)
    assert all(text.isprintable() and len(text) <= LONGEST for text in device(plan, columns).values())
    assert all(harmless(fact) for fact in lldp_mib.read(columns, columns))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
