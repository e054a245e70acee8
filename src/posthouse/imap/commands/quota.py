"""GETQUOTA and GETQUOTAROOT (RFC 9208). Quotas are set by who runs the server, so SETQUOTA is not there."""

from dataclasses import dataclass

from posthouse.imap.tokens import Cursor


@dataclass(frozen=True, slots=True)
class GetQuota:
    """GETQUOTA"""

    root: bytes


@dataclass(frozen=True, slots=True)
class GetQuotaRoot:
    """GETQUOTAROOT"""

    name: str


def get_quota(cursor: Cursor) -> GetQuota:
    """getquota = "GETQUOTA" SP quota-root-name; quota-root-name = astring"""
    cursor.space()
    root = cursor.astring()
    cursor.end()
    return GetQuota(root)


def get_quota_root(cursor: Cursor) -> GetQuotaRoot:
    """getquotaroot = "GETQUOTAROOT" SP mailbox"""
    cursor.space()
    name = cursor.mailbox()
    cursor.end()
    return GetQuotaRoot(name)
