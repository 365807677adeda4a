"""The contract between a server and the inventory: msgspec structs and the topic grammar, nothing else."""
