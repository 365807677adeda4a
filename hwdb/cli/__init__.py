"""The command line of the inventory: `main` has the verbs, one module each does their work."""
