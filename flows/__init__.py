"""Prefect flows, the workspace file and the command line."""
