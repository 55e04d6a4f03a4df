"""The command line: words become library calls, and errors one paragraph."""

import sys

from insitu.budget import begin

__all__ = ["main"]


def main() -> None:
    """Run the command line; wrong input ends in one paragraph and exit code 2."""
    # Not when the module was loaded: a process may run several commands, hours apart.
    begin()
    try:
        # Inside, so that an interruption while modules are imported ends as any other does.
        from insitu.cli.app import run

        sys.exit(run())
    except KeyboardInterrupt:
        sys.exit(130)
