"""Transceivers' EEPROMs decoded by their standards, in pure functions: bytes in, what they say out."""
