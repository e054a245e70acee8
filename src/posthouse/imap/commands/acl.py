"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS (RFC 4314 section 3)."""

from dataclasses import dataclass

from posthouse.imap.tokens import BadSyntax, Cursor
from posthouse.wire.sasl.prepare import saslprep

RIGHTS = "lrswipkxtea"
_VIRTUAL = {"c": "kx", "d": "te"}  # section 2.1.1: for clients of RFC 2086
_KNOWN = frozenset(RIGHTS).union(_VIRTUAL)


@dataclass(frozen=True, slots=True)
class SetAcl:
    """SETACL; DELETEACL is "=" with no rights"""

    name: str
    identifier: str
    mode: str  # "=", "+", "-"
    rights: frozenset[str]
    delete: bool = False


@dataclass(frozen=True, slots=True)
class GetAcl:
    """GETACL"""

    name: str


@dataclass(frozen=True, slots=True)
class ListRights:
    """LISTRIGHTS"""

    name: str
    identifier: str


@dataclass(frozen=True, slots=True)
class MyRights:
    """MYRIGHTS"""

    name: str


def shown(rights: frozenset[str]) -> bytes:
    """Rights as they are told: with the virtual ones that they make (section 2.1.1)."""
    told = "".join(right for right in RIGHTS if right in rights)
    told += "".join(virtual for virtual, members in _VIRTUAL.items() if not rights.isdisjoint(members))
    return told.encode()


def meant(text: str) -> frozenset[str]:
    """The rights that letters stand for; raises `BadSyntax`."""
    if not _KNOWN.issuperset(text):
        raise BadSyntax("a right that we do not know: " + RIGHTS + " are there, in lower case")
    return frozenset("".join(_VIRTUAL.get(letter, letter) for letter in text))


def _name(cursor: Cursor) -> str:
    cursor.space()
    return cursor.mailbox()


def _identifier(cursor: Cursor) -> str:
    """identifier = astring, prepared with SASLprep (section 3)"""
    cursor.space()
    prepared = saslprep(cursor.astring().decode("utf-8", "replace"))
    if not prepared:
        raise BadSyntax("an identifier that is none")
    return prepared


def set_acl(cursor: Cursor) -> SetAcl:
    """setacl = "SETACL" SP mailbox SP identifier SP mod-rights; mod-rights = astring: [+-] rights"""
    name, identifier = _name(cursor), _identifier(cursor)
    cursor.space()
    text = cursor.astring().decode("ascii", "replace")
    cursor.end()
    mode = text[:1] if text[:1] in ("+", "-") else "="
    return SetAcl(name, identifier, mode, meant(text.removeprefix(mode)))


def delete_acl(cursor: Cursor) -> SetAcl:
    """deleteacl = "DELETEACL" SP mailbox SP identifier"""
    name, identifier = _name(cursor), _identifier(cursor)
    cursor.end()
    return SetAcl(name, identifier, "=", frozenset(), delete=True)


def get_acl(cursor: Cursor) -> GetAcl:
    name = _name(cursor)
    cursor.end()
    return GetAcl(name)


def list_rights(cursor: Cursor) -> ListRights:
    """listrights = "LISTRIGHTS" SP mailbox SP identifier"""
    name = _name(cursor)
    cursor.space()
    identifier = cursor.astring().decode("utf-8", "replace")
    cursor.end()
    return ListRights(name, identifier)


def my_rights(cursor: Cursor) -> MyRights:
    name = _name(cursor)
    cursor.end()
    return MyRights(name)
