"""Adapters from the data sets we ship support for to the canonical tables."""
