"""The command line: `polyrank`, or `python -m flows.cli`."""

from flows.cli import jobs, releases, studies
from flows.cli.base import app, exit_code, parse_as_of

__all__ = ["app", "exit_code", "jobs", "parse_as_of", "releases", "studies"]
