"""What an IOMMU confines together: whether a PCI function may leave the host, and the facts once it has."""

from collections.abc import Collection

from msgspec import structs

from tuners.hostfacts import HostFacts
from wire.facts import Passthrough
from wire.policy import Request

AWAY = ("", "vfio-pci", "pci-stub")  # drivers with which a function is not the host's; bridges are no facts
NO_GROUP = "it has no IOMMU group: VFIO could not confine it (unsafe_noiommu: true allows that where the kernel does)"


def refusal(facts: HostFacts, address: str, group: int | None, along: Collection[str], *, allowed: bool) -> str:
    """Why VFIO must not have the function; "" when all of its group leave the host with it, or did.

    `along` goes to VFIO in the same plan; with `allowed` no IOMMU is needed.
    """
    if group is None:
        return "" if allowed else NO_GROUP
    others = [one for one in facts.pci.values() if one.iommu_group == group and one.key != address]
    stays = [one for one in others if one.driver not in AWAY and "vfio" not in one.driver and one.key not in along]
    if stays:
        return f"it shares IOMMU group {group} with {stays[0].key} ({stays[0].driver}), which would have to go too"
    return ""


def bound(facts: HostFacts, op: Request) -> HostFacts:
    """The facts once the PCI function `op.item` has the driver of `op.after`."""
    address, driver = op.item, str(op.after["driver"])
    changed = [structs.replace(facts.pci[address], driver=driver)] if address in facts.pci else []
    given = [structs.replace(one, driver=driver) for one in facts.of(Passthrough) if one.key == address]
    return facts.replace([*changed, *given])
