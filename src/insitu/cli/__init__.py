"""The command line."""

from insitu.cli.app import app, main

__all__ = ["app", "main"]
