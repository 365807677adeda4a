"""The command line of the inventory: `main` is the entry, `verbs` the arguments, one module each does the work."""
