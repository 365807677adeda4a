// Hardware that the kernel's own ACPI drivers drive: thermal zones, a fan, a power meter, P-states and C-states.
// Its values lie in a page of guest memory (acpi.py names them), which the host shares and changes while the guest runs.
DefinitionBlock ("", "SSDT", 2, "LAB", "LABHW", 0x1)
{
    @EXTERNALS@
    OperationRegion (LABR, SystemMemory, @PAGE@, 0x1000)
    Field (LABR, DWordAcc, NoLock, Preserve)
    {
        T000, 32,   // 0x00 temperature of zone 0, tenths of kelvin
        T001, 32,   // 0x04 temperature of zone 1
        PWRM, 32,   // 0x08 milliwatts
        PCAP, 32,   // 0x0c power cap, milliwatts; the guest sets it
        FLVL, 32,   // 0x10 fan level, 0 to 100; the guest sets it
        FRPM, 32,   // 0x14 revolutions a minute
        CRT0, 32,   // 0x18 critical trip point of zone 0
        PSV0, 32    // 0x1c passive trip point of zone 0
    }
    Scope (\_SB)
    {
        Device (LFAN)
        {
            Name (_HID, "PNP0C0B")
            Name (_UID, 1)
            Method (_FIF, 0) { Return (Package () { 0, 1, 1, 0 }) }
            Name (FPSP, Package () { 0,
                Package () { 100, 0xFFFFFFFF, 12000, 500, 6000 },
                Package () { 50, 0xFFFFFFFF, 6000, 300, 3000 },
                Package () { 0, 0xFFFFFFFF, 0, 0, 0 } })
            Method (_FPS, 0) { Return (FPSP) }
            Method (_FSL, 1) { FLVL = Arg0 }
            Method (_FST, 0) { Local0 = Package () { 0, 0, 0 }  Local0 [1] = FLVL  Local0 [2] = FRPM  Return (Local0) }
            Method (_STA, 0) { Return (0x0F) }
        }
        Device (PMTR)
        {
            Name (_HID, "ACPI000D")
            Name (_UID, 1)
            // measures, trips, caps; milliwatts; input; 99.5 % accurate; samples of 1000 ms; intervals of 1 to 30 s;
            // hysteresis; the cap can be written, 100 to 900 W
            Method (_PMC, 0) { Return (Package () {
                0x07, 0, 0, 99500, 1000, 1000, 30000, 1000, One, 100000, 900000, "LABPM", "PM0001", "LAB" }) }
            Method (_PMD, 0) { Return (Package () { \_SB.PMTR }) }  // without it the driver refuses the meter
            Method (_PMM, 0) { Return (PWRM) }
            Name (PAI, 1000)
            Method (_PAI, 1) { PAI = Arg0  Return (0) }
            Method (_GAI, 0) { Return (PAI) }
            Method (_PTP, 2) { Return (0) }
            Method (_SHL, 1) { PCAP = Arg0  Return (0) }
            Method (_GHL, 0) { Return (PCAP) }
        }
    }
    Scope (\_TZ)
    {
        ThermalZone (TZ00)
        {
            Method (_TMP, 0) { Return (T000) }
            Method (_CRT, 0) { Return (CRT0) }
            Method (_PSV, 0) { Return (PSV0) }
            Name (_TC1, 4)
            Name (_TC2, 3)
            Name (_TSP, 10)  // not above _TZP, or the kernel refuses the zone
            Name (_PSL, Package () { @COOLED@ })
            Name (_AC0, 3331)
            Name (_AL0, Package () { \_SB.LFAN })
            Name (_TZP, 10)
            Name (_STR, Unicode ("CPU package"))
        }
        ThermalZone (TZ01)
        {
            Method (_TMP, 0) { Return (T001) }
            Name (_CRT, 3781)
            Name (_TZP, 10)
            Name (_STR, Unicode ("Board"))
        }
    }
    Name (PSSP, Package () {
        Package () { 2900, 65000, 10, 10, 0, 0 }, Package () { 2400, 50000, 10, 10, 1, 1 },
        Package () { 1800, 35000, 10, 10, 2, 2 }, Package () { 1200, 20000, 10, 10, 3, 3 } })
    Name (CSTP, Package () { 1, Package () { ResourceTemplate () { Register (FFixedHW, 0, 0, 0) }, 1, 1, 1000 } })
    @CPUS@
}
