"""Transceivers and DIMMs of a guest, as its ethtool and its EDAC core see them."""

import errno
import subprocess
from pathlib import Path

import pytest

from hardware_lab import cage, dimms, eeprom
from hardware_lab.eeprom import Lane, Optic
from hardware_lab.guest import Guest, GuestError
from tests.lab.conftest import Bench, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.root]

REAL = (
    "sff8472/intel_ftlx8574_e810",
    "sff8472/mikrotik_s+ao0005",
    "sff8636/oom_qsfp28",
    "sff8636/mellanox_mcp1650_qsfp56_dac",
    "cmis/credo_cac845_aec_7V",
    "cmis/sfppi_qsfp-400-zrp",
    "cmis/d_cmis_two_banks",
)
# Not any "Call Trace": a busy host makes an emulated guest report RCU stalls, and those taint nothing.
BAD_PAGE, DIED, WARNED = 1 << 5, 1 << 7, 1 << 9  # taints: slab and page errors, oopses, WARN and BUG of all kinds
STUCK = "blocked for more than|unregister_netdevice: waiting"


def decoded(guest: Guest, nic: str) -> dict[str, str]:
    """What ethtool makes of the module, line by line; of lines that repeat, the first."""
    found: dict[str, str] = {}
    for line in guest.run(f"ethtool -m {nic}").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def raw(guest: Guest, nic: str, module: eeprom.Module) -> bytes:
    """Every block of the module as netlink gives it."""
    script = []
    for i2c, space in ((0x50, module.a0), (0x51, module.a2)):
        for block in sorted(space):
            bank, page = divmod(max(block - 1, 0), 256)
            at = f"offset {128 if block else 0} length 128 page {page} bank {bank} i2c {i2c:#x}"
            script.append(f"ethtool -m {nic} raw on {at}")
    return guest.attempt("\n".join(script)).stdout


def refusal(guest: Guest, command: str) -> str:
    """The last line of a command that fails."""
    done = guest.attempt(f"LC_ALL=C {command} 2>&1")
    assert done.returncode, done.stdout
    return done.stdout.decode().strip().splitlines()[-1]


def mishaps(guest: Guest) -> list[str]:
    """What the kernel held against itself since it started."""
    taint = int(guest.read("/proc/sys/kernel/tainted"))
    stuck = guest.run(f"dmesg | grep -E '{STUCK}' || true").splitlines()
    return [f"taint {taint:#x}"] * bool(taint & (BAD_PAGE | DIED | WARNED)) + stuck


def test_a_built_module_is_decoded_and_its_values_live(server: Bench) -> None:
    guest, nic = server.guest, server.nic(0)
    kinds = {"sfp": "0x03 (SFP)", "qsfp28": "0x11 (QSFP28)", "qsfp-dd": "0x18 (QSFP-DD"}
    for form in eeprom.LANES:
        last = eeprom.LANES[form]
        lanes = tuple(Lane(tx_mw=0.5 + lane / 10) for lane in range(last))
        cage.insert(guest, nic, eeprom.build(Optic(form=form, part="LAB-1", serial="LAB42", lanes=lanes)))
        seen = decoded(guest, nic)
        assert seen["Identifier"].startswith(kinds[form])
        assert (seen["Vendor name"], seen["Vendor PN"], seen["Vendor SN"]) == ("LABOPTIC", "LAB-1", "LAB42")
        assert seen["Module temperature"].startswith("38.00 degrees C")
        assert seen["Module voltage"] == "3.3000 V"
        tx = "Laser output power" if form == "sfp" else f"Transmit avg optical power (Channel {last})"
        assert seen[tx].startswith(f"{lanes[-1].tx_mw:.4f} mW")
        assert seen["Module temperature high alarm"] == "Off"
        assert seen["Module temperature high alarm threshold"].startswith("75.00 degrees C")

        cage.set_monitor(guest, nic, "temperature_c", 80.5)
        cage.set_monitor(guest, nic, "rx_mw", 0.01, last - 1)
        seen = decoded(guest, nic)
        assert seen["Module temperature"].startswith("80.50 degrees C")
        assert seen["Module temperature high alarm"] == "On"
        rx = [value for name, value in seen.items() if name.startswith(("Rcvr signal avg", "Receiver signal av"))]
        assert rx[-1].startswith("0.0100 mW")
        assert [value[:9] for value in rx[:-1]] == ["0.5000 mW"] * (last - 1)


def test_real_modules_arrive_byte_by_byte(server: Bench, data: Path) -> None:
    guest, nic = server.guest, server.nic(0)
    for name in REAL:
        path = data / "sfp" / f"{name}.bin"
        module = eeprom.load(path)
        cage.insert(guest, nic, module)
        space = [*(module.a0[block] for block in sorted(module.a0)), *(module.a2[block] for block in sorted(module.a2))]
        assert raw(guest, nic, module) == b"".join(space), name
        vendor = eeprom.peek(module, "a0", {"sfp": 20, "qsfp28": 148, "qsfp-dd": 129}[eeprom.form_of(module)], 16)
        assert decoded(guest, nic)["Vendor name"] == vendor.decode().rstrip(" \0"), name
    # A page that the module has not shows page 00h; over ioctl, SFP is A0h and then A2h.
    assert guest.run(f"ethtool -m {nic} hex on offset 148 length 4 page 0x55 bank 0 i2c 0x50") == guest.run(
        f"ethtool -m {nic} hex on offset 148 length 4 page 0 bank 0 i2c 0x50"
    )
    sfp = eeprom.load(data / "sfp" / f"{REAL[0]}.bin")
    cage.insert(guest, nic, sfp)
    assert server.guest.attempt(f"python3 - {nic}", stdin=FLAT).stdout == sfp.a0[0] + sfp.a0[1] + sfp.a2[0] + sfp.a2[1]


# ethtool prefers netlink, so the flat dump is asked for by hand: SIOCETHTOOL with GMODULEINFO, then GMODULEEEPROM.
FLAT = b"""
import array, fcntl, socket, struct, sys
def ask(request):
    held = array.array("B", request)
    at, _ = held.buffer_info()
    with socket.socket() as link:
        fcntl.ioctl(link, 0x8946, struct.pack("16sP", sys.argv[1].encode(), at).ljust(40, b"\\0"))
    return held.tobytes()
_, kind, size = struct.unpack_from("III", ask(struct.pack("III8I", 0x42, *[0] * 10)))
assert (kind, size) == (2, 512), (kind, size)
sys.stdout.buffer.write(ask(struct.pack("IIII", 0x43, 0, 0, size) + bytes(size))[16:])
"""


def test_a_module_fails_in_every_way_and_heals(server: Bench) -> None:
    guest, nic = server.guest, server.nic(0)
    built = eeprom.build(Optic())
    cage.attach(guest, nic)
    assert "No such device" in refusal(guest, f"ethtool -m {nic}"), "the cage is empty"
    cage.insert(guest, nic, eeprom.Module(a0=built.a0))
    at = "offset 96 length 2 page 0 bank 0 i2c"
    assert "No such device or address" in refusal(guest, f"ethtool -m {nic} hex on {at} 0x51")

    cage.insert(guest, nic, built)
    for error, text in (
        (errno.EIO, "Input/output error"),
        (errno.ETIMEDOUT, "Connection timed out"),
        (errno.EREMOTEIO, "Remote I/O error"),
    ):
        cage.fail(guest, nic, error)
        assert text in refusal(guest, f"ethtool -m {nic}")
    before = cage.reads(guest, nic)
    cage.fail(guest, nic, errno.EIO, after=1)
    assert guest.attempt(f"ethtool -m {nic} hex on {at} 0x51").returncode == 0
    assert "Input/output error" in refusal(guest, f"ethtool -m {nic} hex on {at} 0x51")
    assert cage.reads(guest, nic) == before + 2
    cage.fail(guest, nic, 0)

    cage.corrupt(guest, nic)
    assert decoded(guest, nic)["Vendor name"] != "LABOPTIC"
    cage.corrupt(guest, nic)
    assert decoded(guest, nic)["Vendor name"] == "LABOPTIC"

    assert "power-mode-policy: auto" in guest.run(f"ethtool --show-module {nic}")
    guest.run(f"ethtool --set-module {nic} power-mode-policy high")
    assert "power-mode: high" in guest.run(f"ethtool --show-module {nic}")
    cage.pull(guest, nic)
    assert "No such device" in refusal(guest, f"ethtool -m {nic}")
    cage.detach(guest, nic)
    assert "Operation not supported" in refusal(guest, f"ethtool -m {nic}")
    with pytest.raises(GuestError, match="No such device"):
        cage.detach(guest, nic)


def read_slowly(guest: Guest, nic: str, form: eeprom.Form) -> "subprocess.Popen[bytes]":
    """An ethtool that is at work on a slow module of this interface."""
    cage.insert(guest, nic, eeprom.build(Optic(form=form)))
    cage.slow(guest, nic, 500)
    before = cage.reads(guest, nic)
    reader = guest.start(f"ethtool -m {nic}")
    wait_for(lambda: cage.reads(guest, nic) > before, "the first half page")
    return reader


def test_a_nic_goes_while_its_module_is_read(server: Bench) -> None:
    guest, nic = server.guest, server.nic(0)
    there = guest.run(f"readlink -f /sys/class/net/{nic}/device").strip()
    for _ in range(2):
        reader = read_slowly(guest, nic, "qsfp28")
        guest.run(f"echo 1 > {there}/remove")
        reader.communicate(timeout=60)
        assert nic not in guest.run(f"ls {cage.ROOT}").split()
        guest.run("echo 1 > /sys/bus/pci/rescan && udevadm settle")
        nic = wait_for(lambda: server.nic(0), "the NIC again")
        assert "Operation not supported" in refusal(guest, f"ethtool -m {nic}")
    # The driver goes while it is asked, and comes again.
    reader = read_slowly(guest, nic, "sfp")
    guest.run("rmmod lab_cage")
    reader.communicate(timeout=60)
    assert "Operation not supported" in refusal(guest, f"ethtool -m {nic}")
    cage.insert(guest, nic, eeprom.build(Optic()))
    assert decoded(guest, nic)["Vendor name"] == "LABOPTIC"
    assert mishaps(guest) == []


def test_dimms_count_their_errors(server: Bench) -> None:
    guest = server.guest
    dimms.load(guest)
    assert list(dimms.counts(guest)) == [f"P{node}-DIMM{channel}1" for node in (0, 1) for channel in "ABCD"]
    dimms.inject(guest, "P1-DIMMC1", "CE", 3)
    dimms.inject(guest, "P1-DIMMC1", "CE")
    dimms.inject(guest, "P0-DIMMA1", "UE")
    counted = {label: errors for label, errors in dimms.counts(guest).items() if any(errors)}
    assert counted == {"P1-DIMMC1": dimms.Errors(4, 0), "P0-DIMMA1": dimms.Errors(0, 1)}
    assert (
        guest.run("cat /sys/devices/system/edac/mc/mc1/ce_count /sys/devices/system/edac/mc/mc0/ue_count") == "4\n1\n"
    )
    with pytest.raises(GuestError, match="No such device"):
        dimms.inject(guest, "P9-DIMMA1")
    dimms.load(guest, controllers=1, channels=1, slots=2, labels=["DIMM_A1"])
    assert list(dimms.counts(guest)) == ["DIMM_A1", "P0-DIMMA2"]
    assert mishaps(guest) == []
