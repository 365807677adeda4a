"""Virtual machines with real server hardware in them, virtual rack devices, simulated fleets, and faults."""
