"""One server's TPM 2.0: swtpm, with its state in the server's run folder; it outlives QEMU."""

from pathlib import Path

from hardware_lab import daemon
from hardware_lab.command import run as run_command

_NAME = "swtpm"


def devices(run: Path) -> list[str]:
    """QEMU's arguments for the TPM of a run folder."""
    return [
        *("-chardev", f"socket,id=tpm,path={run / 'tpm.sock'}", "-tpmdev", "emulator,id=tpm,chardev=tpm"),
        *("-device", "tpm-tis,tpmdev=tpm"),
    ]


def start(run: Path) -> None:
    """Make a TPM with a SHA-256 bank of PCRs where there is none yet, and return when QEMU can connect to it.

    One that runs already serves the next QEMU too. Raises LabError with its last words.
    """
    run = run.resolve()
    if daemon.find(run, _NAME):
        return
    state = run / "tpm"
    if not state.exists():
        state.mkdir(mode=0o700)
        run_command(["swtpm_setup", "--tpm2", "--tpmstate", str(state), "--pcr-banks", "sha256"])
    (run / "tpm.sock").unlink(missing_ok=True)
    control = ["--ctrl", "type=unixio,path=tpm.sock,mode=0600"]
    daemon.start([_NAME, "socket", "--tpm2", "--tpmstate", "dir=tpm", *control], run, _NAME)
    daemon.await_ready(run, _NAME, (run / "tpm.sock").exists)


def stop(run: Path) -> None:
    """End it; a second call does nothing."""
    daemon.stop(run.resolve(), _NAME)
