"""The slow truth about a machine: one struct per kind of component. A collector yields them, ingest decodes them.

Every fact has a `key` that stays when the component moves: a NIC's permanent MAC, a PCI address, `node0`. Fields name
their source in a comment. None means the machine does not say; -1 is never used for "unknown".

One module here per domain; a new kind is a struct there, a line in the import and one in `Fact`.
"""

import msgspec

from wire.facts.bmc import Bmc as Bmc
from wire.facts.bmc import BmcFirmware as BmcFirmware
from wire.facts.bmc import BmcSensor as BmcSensor
from wire.facts.bmc import Fru as Fru
from wire.facts.cables import Lldp as Lldp
from wire.facts.host import Cpu as Cpu
from wire.facts.host import CpuThread as CpuThread
from wire.facts.host import Dimm as Dimm
from wire.facts.host import Dmi as Dmi
from wire.facts.host import Hwmon as Hwmon
from wire.facts.host import Memory as Memory
from wire.facts.host import Numa as Numa
from wire.facts.host import Pci as Pci
from wire.facts.net import Bond as Bond
from wire.facts.net import BondPort as BondPort
from wire.facts.net import Bridge as Bridge
from wire.facts.net import BridgePort as BridgePort
from wire.facts.net import Gid as Gid
from wire.facts.net import LacpPort as LacpPort
from wire.facts.net import Passthrough as Passthrough
from wire.facts.net import Rdma as Rdma
from wire.facts.net import Representor as Representor
from wire.facts.net import Virt as Virt
from wire.facts.net import VirtFunction as VirtFunction
from wire.facts.net import Vlan as Vlan
from wire.facts.nic import Ethtool as Ethtool
from wire.facts.nic import Irq as Irq
from wire.facts.nic import Nic as Nic
from wire.facts.nic import Queue as Queue
from wire.facts.nic import Queues as Queues
from wire.facts.nic import Softnet as Softnet
from wire.facts.optics import Optics as Optics
from wire.facts.optics import OpticsApplication as OpticsApplication
from wire.facts.optics import OpticsLane as OpticsLane
from wire.facts.optics import OpticsLimits as OpticsLimits
from wire.facts.owners import Claim as Claim
from wire.facts.owners import Owner as Owner
from wire.facts.place import CacheGroup as CacheGroup
from wire.facts.place import CacheResource as CacheResource
from wire.facts.place import Process as Process
from wire.facts.place import Processes as Processes
from wire.facts.place import Resctrl as Resctrl
from wire.facts.place import Slices as Slices
from wire.facts.place import Unit as Unit
from wire.facts.platform import Clock as Clock
from wire.facts.platform import Cmdline as Cmdline
from wire.facts.platform import Edac as Edac
from wire.facts.platform import EdacModule as EdacModule
from wire.facts.platform import Firmware as Firmware
from wire.facts.platform import Led as Led
from wire.facts.platform import Mce as Mce
from wire.facts.platform import Pcie as Pcie
from wire.facts.platform import PtpClock as PtpClock
from wire.facts.platform import Timestamping as Timestamping
from wire.facts.platform import Trust as Trust
from wire.facts.platform import Watchdog as Watchdog
from wire.facts.power import CoolingDevice as CoolingDevice
from wire.facts.power import Cpufreq as Cpufreq
from wire.facts.power import Fan as Fan
from wire.facts.power import FrequencyPolicy as FrequencyPolicy
from wire.facts.power import IdleState as IdleState
from wire.facts.power import PowerDomain as PowerDomain
from wire.facts.power import PowerLimit as PowerLimit
from wire.facts.power import PowerMeter as PowerMeter
from wire.facts.power import Psu as Psu
from wire.facts.power import ThermalZone as ThermalZone
from wire.facts.power import Trip as Trip
from wire.facts.power import UncoreDomain as UncoreDomain
from wire.facts.rack import Bank as Bank
from wire.facts.rack import Condition as Condition
from wire.facts.rack import Device as Device
from wire.facts.rack import Entity as Entity
from wire.facts.rack import EntitySensor as EntitySensor
from wire.facts.rack import Outlet as Outlet
from wire.facts.rack import Port as Port
from wire.facts.rack import Probe as Probe
from wire.facts.rack import Ups as Ups
from wire.facts.steering import Napi as Napi
from wire.facts.steering import NapiInstance as NapiInstance
from wire.facts.steering import Ntuple as Ntuple
from wire.facts.steering import NtupleRule as NtupleRule
from wire.facts.steering import Rss as Rss
from wire.facts.steering import RssContext as RssContext
from wire.facts.storage import Array as Array
from wire.facts.storage import ArrayMember as ArrayMember
from wire.facts.storage import Disk as Disk
from wire.facts.storage import DriveHealth as DriveHealth
from wire.facts.storage import Nvme as Nvme
from wire.facts.storage import StorageController as StorageController
from wire.facts.traffic import Dcb as Dcb
from wire.facts.traffic import Qdisc as Qdisc
from wire.facts.traffic import Sysctl as Sysctl
from wire.facts.traffic import SysctlOwner as SysctlOwner
from wire.facts.xdp import Xdp as Xdp

Fact = (
    Dmi
    | Cpu
    | Numa
    | Memory
    | Dimm
    | Nic
    | Optics
    | Ethtool
    | Irq
    | Queues
    | Rss
    | Ntuple
    | Napi
    | Softnet
    | Pci
    | Hwmon
    | Bond
    | Bridge
    | Vlan
    | Virt
    | Passthrough
    | Rdma
    | Lldp
    | Clock
    | Cmdline
    | Edac
    | Firmware
    | Mce
    | Pcie
    | PtpClock
    | Timestamping
    | Trust
    | Watchdog
    | Bank
    | Condition
    | Device
    | Entity
    | EntitySensor
    | Outlet
    | Port
    | Probe
    | Ups
    | Bmc
    | BmcFirmware
    | BmcSensor
    | Fru
    | Disk
    | Nvme
    | StorageController
    | Array
    | DriveHealth
    | PowerDomain
    | PowerMeter
    | Cpufreq
    | ThermalZone
    | CoolingDevice
    | Fan
    | Psu
    | Owner
    | Led
    | Slices
    | Processes
    | Resctrl
    | Qdisc
    | Sysctl
    | Dcb
    | Xdp
)  # fmt: skip

FACT: "msgspec.json.Decoder[Fact]" = msgspec.json.Decoder(Fact)
