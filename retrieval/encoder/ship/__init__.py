"""Shipping a trained encoder: smaller, and by the runtime that serves it fastest on a CPU."""
