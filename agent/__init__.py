"""What runs on every server: the resident agent, its transactions and their dead-man, and the command line."""

VERSION = "0.1.0"
