"""Posthouse: a complete mail server in Python. The floors are told in docs/architecture.md."""

__version__ = "0.1.0"
