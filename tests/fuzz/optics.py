"""Coverage-guided fuzzing of the transceivers' decoders: `python tests/fuzz/optics.py -atheris_runs=100000`.

With `-max_len=4096 -len_control=0` it begins with whole modules; a folder of dumps as last argument is where it starts.
"""

import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["collectors.transceiver", "agent.optics"]):
    import msgspec

    from agent import optics as dumps
    from collectors.transceiver import cmis, sff8472, sff8636  # noqa: F401 - to be instrumented
    from collectors.transceiver import image as images
    from collectors.transceiver.image import A0, A2, LOWER, Image, LayoutError

PAGES = (LOWER, 0, 1, 2, 3, 4, 0x11, 0x12, 0x20, 0x21, 0x24, 0x25, 0x28, 0x2C, 0x34, 0x35)
FORBIDDEN = (-1 / 256, 0.0001)


def check(image: Image, family: str) -> None:
    """Decode and look at what would be reported."""
    try:
        dump = dumps.decoded(image, family)
    except dumps.DumpError:
        return
    msgspec.json.encode(dump)
    if not dumps.text(dump).replace("\n", "").isprintable():
        raise AssertionError("a control character came through")
    for sample in dump.samples:
        cold = sample.metric.endswith("dbm") and sample.value <= -39.995
        if cold or sample.value in FORBIDDEN or not -1e6 < sample.value < 1e6:
            raise AssertionError(f"a sentinel is a reading: {sample}")


def test_one(data: bytes) -> None:
    """The first bytes choose how the rest is laid out."""
    provider = atheris.FuzzedDataProvider(data)
    how = provider.ConsumeIntInRange(0, 3)
    if how == 0:
        check(images.flat(dumps.unhexed(provider.ConsumeBytes(4096))), "")
        return
    if how == 1:
        try:
            layout = images.read_layout(provider.ConsumeBytes(200))
            check(images.arrange(provider.ConsumeBytes(1024), layout), layout.family)
        except LayoutError:
            pass
        return
    family = provider.PickValueInList(["", "sff8472", "sff8636", "cmis"])
    blocks = {(A0, 0, page): provider.ConsumeBytes(128) for page in PAGES}
    blocks[A2, 0, LOWER] = provider.ConsumeBytes(128)
    if how == 2:
        blocks = {place: block.ljust(128, b"\0") for place, block in blocks.items()}
    check(Image(blocks, []), family)


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one)
    atheris.Fuzz()
