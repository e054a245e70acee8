"""What differs between IMAP servers: the ways to log in, and the limits of the engine."""

from dataclasses import dataclass

# Octets of a literal that a client may send unasked under LITERAL- (RFC 7888 section 5).
UNASKED = 4096


@dataclass(frozen=True, slots=True)
class Options:
    """What differs between servers. Shared by all their connections."""

    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    starttls: bool = True  # offered, as long as the connection is plain
    plaintext_login: bool = False  # logging in without TLS is allowed
    require_tls: bool = False
    unauthenticate: bool = True  # a connection may be used by several accounts, one after the other (RFC 8437)
    max_line: int = 64 * 1024  # octets of a command without its literals
    max_literal_before_login: int = 8 * 1024  # octets of all literals of a command
    max_literal: int = 256 * 1024
    max_message: int = 64 * 1024 * 1024  # APPEND
    max_messages: int = 0  # that one command works on, announced as MESSAGELIMIT (RFC 9738); 0: no limit
    gmail: bool = False  # X-GM-EXT-1
    literal_plus: bool = True  # literals of any size may come unasked (RFC 7888); else LITERAL-
    max_errors: int = 20  # syntax errors in a row
    max_auth_failures: int = 5
    # A message that is refused for its size, and comes all the same (LITERAL+), is thrown away up to here.
    max_skipped: int = 1024 * 1024 * 1024


DEFAULT = Options()
