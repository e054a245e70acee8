"""IMAP: the decisions of one connection. The engine is posthouse.imap; one file here for each group of commands."""

from posthouse.servers.imap.service import ImapService

__all__ = ["ImapService"]
