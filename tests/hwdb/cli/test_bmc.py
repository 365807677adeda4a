"""`rackhand bmc`: where the BMC is, with which credentials, what is asked first and what is written down."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardware_lab import redfish as lab
from hardware_lab.redfish import ROOT, Server, Service
from hwdb import bmc, store
from hwdb.cli.failure import Exit
from hwdb.db import open_engine, reading
from hwdb.ingest import Incoming, Ingest
from pollers import ipmi_console
from pollers.credentials import CredentialsError, read_secrets
from tests.hwdb.cli.inventory import fails, fine, parsed, run
from wire.codec import encode, raw
from wire.facts import Bmc, Dmi
from wire.report import Report, Run
from wire.topics import Channel, topic

PASSWORD = "sesame-sesame"
NOWHERE = ["--address", "192.0.2.1"]
CLOSED = ["--address", "127.0.0.1", "--port", "1"]
AT_MS = 1_700_000_000_000


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.toml"
    path.touch(mode=0o600)
    path.write_text('[bmc]\nusername = "admin"\npassword = "labpass"\n[beta]\nusername = "beta"\npassword = "b"\n')
    return path


@pytest.fixture
def service(data: Path) -> Iterator[Server]:
    server = Server(Service(lab.read_mockup(data / "redfish/sushy")))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def way(service: Server, secrets: Path) -> list[str]:
    """`bmc` with everything before the host's name."""
    port = service.url.rpartition(":")[2]
    given = {"--protocol": "redfish", "--tls": "none", "--address": "127.0.0.1", "--port": port}
    return ["bmc", "--secrets", str(secrets), *(word for pair in given.items() for word in pair)]


def audited(url: str) -> list[str]:
    rows = parsed("json", fine(url, "events", "-n", "1000", "-o", "json"))
    return [row["text"].partition(": ")[2] for row in rows if row["kind"] == "bmc.command"]


def report(url: str, host_id: str, *facts: Bmc | Dmi, seq: int = 2) -> None:
    engine = open_engine(url)
    said = Report(
        host_id=host_id, epoch="e1", seq=seq, floor=1, start="s1",
        runs=[Run(collector="bmc", at_ms=AT_MS + seq, digest=f"b{seq}", facts=[raw(fact) for fact in facts])],
    )  # fmt: skip
    Ingest(engine).batch([Incoming(topic("lab", host_id, Channel.REPORT), encode(said), AT_MS + seq)])
    engine.dispose()


def test_power_is_asked_about_done_and_written_down(url: str, way: list[str], service: Server) -> None:
    assert parsed("json", fine(url, *way, "alpha", "power", "status", "-o", "json")) == [
        {"hostname": "alpha", "setting": "power", "state": "on"}
    ]
    assert "This cuts the power of alpha. Go on?" in fails(url, Exit.REFUSED, *way, "alpha", "power", "off")
    assert (audited(url), service.service.resets) == ([], [])
    assert parsed("json", fine(url, *way, "alpha", "power", "off", "--yes", "-o", "json")) == [
        {"hostname": "alpha", "setting": "power", "state": "off"}
    ]
    fine(url, *way, "alpha", "bootdev", "pxe", "--once", "--yes")
    fine(url, *way, "alpha", "identify", "on")
    assert [reset.kind for reset in service.service.resets] == ["ForceOff"]
    assert service.service.resource(f"{ROOT}/Systems/437XR1138R2")["Boot"]["BootSourceOverrideTarget"] == "Pxe"
    words = ("power off", "bootdev pxe once", "identify on")
    assert audited(url) == [f"{word}: {outcome}" for word in words for outcome in ("asked", "done")]


def test_what_failed_is_written_down_too(url: str, way: list[str], service: Server) -> None:
    service.stop()
    line = fails(url, Exit.DEVICE, *way, "alpha", "power", "off", "--yes")
    assert line.endswith("Connection refused")
    first, second = audited(url)
    assert first == "power off: asked"
    assert second.startswith("power off: failed: 127.0.0.1 port")


@pytest.mark.parametrize(
    ("code", "words", "said"),
    [
        (Exit.NOT_FOUND, ["gamma", "power", "status"], "no host 'gamma'"),
        (Exit.NOT_FOUND, ["alpha", "power", "status"], "where the BMC of alpha is, nobody has said: --address"),
        (Exit.USAGE, ["alpha", "power", "explode"], "explode"),
        (Exit.USAGE, ["alpha", "dance"], "dance"),
        (
            Exit.BAD_INPUT,
            [*NOWHERE, "--secret", "none", "alpha", "power", "status"],
            "no credentials named none",
        ),
        (
            Exit.BAD_INPUT,
            [*NOWHERE, "--protocol", "redfish", "alpha", "console"],
            "the console is IPMI's",
        ),
        (Exit.DEVICE, [*CLOSED, "alpha", "power", "status"], "no IPMI there"),
        (Exit.DEVICE, [*CLOSED, "alpha", "console"], "no IPMI there"),
    ],
)
def test_each_mistake_is_one_line_with_a_code_of_its_own(
    url: str, secrets: Path, code: Exit, words: list[str], said: str
) -> None:
    assert said in fails(url, code, "bmc", "--secrets", str(secrets), *words)


def test_a_wrong_password_is_said_and_not_repeated(url: str, way: list[str], secrets: Path) -> None:
    secrets.write_text(f'[bmc]\nusername = "admin"\npassword = "{PASSWORD}"\n')
    done = run(url, *way, "alpha", "power", "status")
    assert (done.returncode, done.stderr) == (
        Exit.DEVICE,
        "rackhand: cannot log in: the user name or password is wrong\n",
    )
    assert PASSWORD not in done.stdout + done.stderr


def test_the_event_log_is_shown(url: str, way: list[str]) -> None:
    assert fine(url, *way, "alpha", "sel") == ""


def test_the_address_is_the_hosts_own_or_that_of_the_bmc_with_its_uuid(url: str) -> None:
    uuid = "4e4a8f2a-0000-4000-8000-5254001b0700"

    def found(host: str) -> str:
        with reading(url) as conn:
            return bmc.find_address(conn, store.resolve(conn, host))

    assert found("alpha") == ""
    report(url, "host-01", Dmi(hostname="alpha", uuid=uuid.upper()))
    report(url, "host-02", Bmc(address="192.0.2.9", system_uuid=uuid))
    assert (found("alpha"), found("beta")) == ("192.0.2.9", "192.0.2.9")
    report(url, "host-01", Bmc(address="192.0.2.7", system_uuid=uuid), seq=3)
    assert found("alpha") == "192.0.2.7"


def test_credentials_are_the_named_ones_the_hosts_or_those_for_all(secrets: Path) -> None:
    assert bmc.find_secret(bmc.Way(secrets=secrets), "beta").username == "beta"
    assert bmc.find_secret(bmc.Way(secrets=secrets, name="bmc"), "beta").username == "admin"
    assert bmc.find_secret(bmc.Way(secrets=secrets), "alpha").username == "admin"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_secrets_file_for_others_is_not_read(secrets: Path, mode: int) -> None:
    secrets.chmod(mode)
    with pytest.raises(CredentialsError, match=r"must be its owner's alone: chmod 600"):
        read_secrets(secrets)
    assert stat.S_IMODE(secrets.stat().st_mode) == mode


@pytest.mark.parametrize(
    "text",
    [
        f'[bmc]\npassword = "{PASSWORD}',
        f'[bmc]\npasswort = "{PASSWORD}"',
        f'bmc = "{PASSWORD}"',
        f'[bmc]\npassword = ["{PASSWORD}"]',
        f"{PASSWORD} = = =",
    ],
)
def test_a_mistake_in_it_is_one_line_that_repeats_nothing_of_it(secrets: Path, text: str) -> None:
    secrets.write_text(text)
    with pytest.raises(CredentialsError) as caught:
        read_secrets(secrets)
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert str(secrets) in str(caught.value)


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path("/dev/null")):
        with pytest.raises(
            CredentialsError, match=r"^/[^\n]*: (not a file|Is a directory|No such file or directory|must be)"
        ):
            read_secrets(path)


@pytest.mark.parametrize(
    ("typed", "passed", "command"),
    [
        (b"ls\r", b"ls\r", b""),
        (b"~.", b"", b"."),
        (b"x~.", b"x~.", b""),
        (b"x\r~.", b"x\r", b"."),
        (b"\r~B", b"\r", b"B"),
        (b"~~.", b"~.", b""),
        (b"~x", b"~x", b""),
    ],
)
def test_the_way_out_of_the_console(typed: bytes, passed: bytes, command: bytes) -> None:
    assert ipmi_console.Keys().take(typed) == (passed, command)
    keys = ipmi_console.Keys()  # as slow typing brings it
    said = [keys.take(typed[at : at + 1]) for at in range(len(typed))]
    assert (b"".join(one for one, _ in said), said[-1][1]) == (passed, command)


@given(st.binary(max_size=60).filter(lambda typed: b"~" not in typed))
def test_every_other_key_goes_to_the_host(typed: bytes) -> None:
    assert ipmi_console.Keys().take(typed) == (typed, b"")
