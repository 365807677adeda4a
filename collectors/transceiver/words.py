"""What SFF-8024 and CMIS number, in words; an unknown number is said as that."""

FORMS = {
    0x01: "GBIC", 0x02: "soldered", 0x03: "SFP", 0x06: "XFP", 0x0B: "DWDM-SFP", 0x0C: "QSFP", 0x0D: "QSFP+",
    0x0E: "CXP", 0x11: "QSFP28", 0x12: "CXP2", 0x17: "microQSFP", 0x18: "QSFP-DD", 0x19: "OSFP", 0x1A: "SFP-DD",
    0x1B: "DSFP", 0x1E: "QSFP with CMIS", 0x1F: "SFP-DD with CMIS", 0x20: "SFP with CMIS",
    0x21: "OSFP-XD", 0x22: "ELSFP", 0x23: "CDFP x4", 0x24: "CDFP x8", 0x25: "CDFP x16",
}  # fmt: skip
CONNECTORS = {
    0x01: "SC", 0x02: "FC style 1 copper", 0x03: "FC style 2 copper", 0x04: "BNC/TNC", 0x05: "FC coaxial",
    0x06: "FiberJack", 0x07: "LC", 0x08: "MT-RJ", 0x09: "MU", 0x0A: "SG", 0x0B: "optical pigtail", 0x0C: "MPO 1x12",
    0x0D: "MPO 2x16", 0x20: "HSSDC II", 0x21: "copper pigtail", 0x22: "RJ45", 0x23: "no separable connector",
    0x24: "MXC 2x16", 0x25: "CS", 0x26: "SN", 0x27: "MPO 2x12", 0x28: "MPO 1x16",
}  # fmt: skip
EXTENDED = {  # extended specification compliance, table 4-4
    0x01: "100G AOC or 25GAUI C2M AOC", 0x02: "100GBASE-SR4 or 25GBASE-SR", 0x03: "100GBASE-LR4 or 25GBASE-LR",
    0x04: "100GBASE-ER4 or 25GBASE-ER", 0x05: "100GBASE-SR10", 0x06: "100G CWDM4", 0x07: "100G PSM4",
    0x08: "100G ACC or 25GAUI C2M ACC", 0x0B: "100GBASE-CR4, 25GBASE-CR CA-L or 50GBASE-CR2",
    0x0C: "25GBASE-CR CA-S or 50GBASE-CR2", 0x0D: "25GBASE-CR CA-N or 50GBASE-CR2", 0x10: "40GBASE-ER4",
    0x11: "4x10GBASE-SR", 0x12: "40G PSM4", 0x13: "G959.1 P1I1-2D1", 0x14: "G959.1 P1S1-2D2", 0x15: "G959.1 P1L1-2D2",
    0x16: "10GBASE-T", 0x17: "100G CLR4", 0x18: "100G AOC or 25GAUI C2M AOC", 0x19: "100G ACC or 25GAUI C2M ACC",
    0x1A: "100GE-DWDM2", 0x1B: "100G 1550 nm WDM", 0x1C: "10GBASE-T short reach", 0x1D: "5GBASE-T", 0x1E: "2.5GBASE-T",
    0x1F: "40G SWDM4", 0x20: "100G SWDM4", 0x21: "100G PAM4 BiDi", 0x22: "4WDM-10", 0x23: "4WDM-20", 0x24: "4WDM-40",
    0x25: "100GBASE-DR", 0x26: "100GBASE-FR1", 0x27: "100GBASE-LR1", 0x28: "100G-SR1",
    0x29: "100GBASE-SR1, 200GBASE-SR2 or 400GBASE-SR4", 0x2A: "100GBASE-FR1", 0x2B: "100GBASE-LR1",
    0x30: "ACC with 50GAUI, 100GAUI-2 or 200GAUI-4", 0x31: "AOC with 50GAUI, 100GAUI-2 or 200GAUI-4",
    0x32: "ACC with 50GAUI, 100GAUI-2 or 200GAUI-4", 0x33: "AOC with 50GAUI, 100GAUI-2 or 200GAUI-4",
    0x3F: "100GBASE-CR1, 200GBASE-CR2 or 400GBASE-CR4", 0x40: "50GBASE-CR, 100GBASE-CR2 or 200GBASE-CR4",
    0x41: "50GBASE-SR, 100GBASE-SR2 or 200GBASE-SR4", 0x42: "50GBASE-FR or 200GBASE-DR4", 0x43: "200GBASE-FR4",
    0x44: "200G 1550 nm PSM4", 0x45: "50GBASE-LR", 0x46: "200GBASE-LR4", 0x47: "400GBASE-DR4", 0x48: "400GBASE-FR4",
    0x49: "400GBASE-LR4-6",
}  # fmt: skip

# Compliance codes: byte in the field -> names from the highest bit down, "" for bits that say nothing of the medium.
SFP_CODES: dict[int, tuple[str, ...]] = {
    0: ("10GBASE-ER", "10GBASE-LRM", "10GBASE-LR", "10GBASE-SR", "", "", "IB 1X copper active", "IB 1X copper passive"),
    3: ("BASE-PX", "BASE-BX10", "100BASE-FX", "100BASE-LX", "1000BASE-T", "1000BASE-CX", "1000BASE-LX", "1000BASE-SX"),
    5: ("", "", "", "", "active cable", "passive cable", "", ""),
    7: ("FC 1200 MB/s", "FC 800 MB/s", "FC 1600 MB/s", "FC 400 MB/s", "FC 3200 MB/s", "FC 200 MB/s", "", "FC 100 MB/s"),
}
QSFP_CODES: dict[int, tuple[str, ...]] = {
    0: ("", "10GBASE-LRM", "10GBASE-LR", "10GBASE-SR", "40GBASE-CR4", "40GBASE-SR4", "40GBASE-LR4", "40G active cable"),
    3: ("", "", "", "", "1000BASE-T", "1000BASE-CX", "1000BASE-LX", "1000BASE-SX"),
}

MEDIA_TYPES = {1: "multi-mode fibre", 2: "single-mode fibre", 3: "passive copper", 4: "active cable", 5: "BASE-T"}
HOST = {
    0x01: "1000BASE-CX", 0x04: "SFI", 0x05: "25GAUI", 0x06: "XLAUI", 0x08: "LAUI-2", 0x09: "50GAUI-2", 0x0A: "50GAUI-1",
    0x0B: "CAUI-4", 0x0C: "100GAUI-4", 0x0D: "100GAUI-2", 0x0E: "200GAUI-8", 0x0F: "200GAUI-4", 0x10: "400GAUI-16",
    0x11: "400GAUI-8", 0x13: "10GBASE-CX4", 0x14: "25GBASE-CR CA-L", 0x15: "25GBASE-CR CA-S", 0x16: "25GBASE-CR CA-N",
    0x17: "40GBASE-CR4", 0x18: "50GBASE-CR", 0x19: "100GBASE-CR10", 0x1A: "100GBASE-CR4", 0x1B: "100GBASE-CR2",
    0x1C: "200GBASE-CR4", 0x1D: "400G CR8", 0x1E: "1000BASE-T", 0x1F: "2.5GBASE-T", 0x20: "5GBASE-T", 0x21: "10GBASE-T",
    0x2F: "IB FDR", 0x30: "IB EDR", 0x31: "IB HDR", 0x32: "IB NDR", 0x4B: "100GAUI-1-S", 0x4C: "100GAUI-1-L",
    0x4D: "200GAUI-2-S", 0x4E: "200GAUI-2-L", 0x4F: "400GAUI-4-S", 0x50: "400GAUI-4-L", 0x51: "800GAUI-8-S",
    0x52: "800GAUI-8-L",
}  # fmt: skip
MULTI_MODE = {
    0x01: "10GBASE-SW", 0x02: "10GBASE-SR", 0x03: "25GBASE-SR", 0x04: "40GBASE-SR4", 0x05: "40G SWDM4",
    0x06: "40G BiDi", 0x07: "50GBASE-SR", 0x08: "100GBASE-SR10", 0x09: "100GBASE-SR4", 0x0A: "100G SWDM4",
    0x0B: "100G BiDi", 0x0C: "100GBASE-SR2", 0x0D: "100GBASE-SR1", 0x0E: "200GBASE-SR4", 0x0F: "400GBASE-SR16",
    0x10: "400GBASE-SR8", 0x11: "400GBASE-SR4", 0x12: "800GBASE-SR8", 0x1A: "400GBASE-SR4.2",
}  # fmt: skip
SINGLE_MODE = {
    0x01: "10GBASE-LW", 0x02: "10GBASE-EW", 0x03: "10G-ZW", 0x04: "10GBASE-LR", 0x05: "10GBASE-ER", 0x06: "10G-ZR",
    0x07: "25GBASE-LR", 0x08: "25GBASE-ER", 0x09: "40GBASE-LR4", 0x0A: "40GBASE-FR", 0x0B: "50GBASE-FR",
    0x0C: "50GBASE-LR", 0x0D: "100GBASE-LR4", 0x0E: "100GBASE-ER4", 0x0F: "100G PSM4", 0x10: "100G CWDM4",
    0x11: "100G 4WDM-10", 0x12: "100G 4WDM-20", 0x13: "100G 4WDM-40", 0x14: "100GBASE-DR", 0x15: "100GBASE-FR1",
    0x16: "100GBASE-LR1", 0x17: "200GBASE-DR4", 0x18: "200GBASE-FR4", 0x19: "200GBASE-LR4", 0x1A: "400GBASE-FR8",
    0x1B: "400GBASE-LR8", 0x1C: "400GBASE-DR4", 0x1D: "400GBASE-FR4", 0x1E: "400G-LR4-10", 0x3E: "400ZR, amplified",
    0x3F: "400ZR, unamplified", 0x46: "ZR400-OFEC-16QAM", 0x47: "ZR300-OFEC-8QAM", 0x48: "ZR200-OFEC-QPSK",
    0x49: "ZR100-OFEC-QPSK",
}  # fmt: skip
COPPER = {0x01: "copper cable", 0x02: "passive loopback", 0xBF: "passive loopback"}
ACTIVE = {0x01: "active cable, BER 1e-12", 0x02: "active cable, BER 5e-5", 0x03: "active cable, BER 2.6e-4",
          0x04: "active cable, BER 1e-6", 0xBF: "active loopback"}  # fmt: skip
BASE_T = {0x01: "1000BASE-T", 0x02: "2.5GBASE-T", 0x03: "5GBASE-T", 0x04: "10GBASE-T"}
MEDIA = {1: MULTI_MODE, 2: SINGLE_MODE, 3: COPPER, 4: ACTIVE, 5: BASE_T}

MODULE_STATES = {1: "low power", 2: "powering up", 3: "ready", 4: "powering down", 5: "fault"}
READY, FAULT = 3, 5
DATA_PATHS = {1: "deactivated", 2: "init", 3: "deinit", 4: "activated", 5: "tx turn on", 6: "tx turn off",
              7: "initialized"}  # fmt: skip
CONFIGS = {1: "success", 2: "rejected", 3: "rejected: application", 4: "rejected: data path", 5: "rejected: SI",
           6: "rejected: lanes in use", 7: "rejected: part of a data path", 12: "in progress"}  # fmt: skip


def word(table: dict[int, str], number: int | None) -> str:
    """The word for a number, the number in hex where there is none, "" for none and for 0 that no table has."""
    if number is None:
        return ""
    return table.get(number) or (f"{number:#04x}" if number else "")


def coded(table: dict[int, tuple[str, ...]], codes: str) -> list[str]:
    """The names of the bits that are set in compliance codes, given in hex."""
    raw = bytes.fromhex(codes)
    return [
        name
        for at, names in table.items()
        if at < len(raw)
        for bit, name in enumerate(names)
        if name and raw[at] & 0x80 >> bit
    ]


def dated(code: str) -> tuple[str, str]:
    """A date code YYMMDD with lot as (YYYY-MM-DD, lot); ("", all of it) for one that is no date."""
    digits, lot = code[:6], code[6:].strip()
    if len(digits) < 6 or not (digits.isascii() and digits.isdigit()):
        return "", code
    year, month, day = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return "", lot
    return f"20{year:02d}-{month:02d}-{day:02d}", lot
