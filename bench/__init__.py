"""Ratios measured in one run, beside the peer or the raw ceiling: `make bench`. Not shipped, not a test."""
