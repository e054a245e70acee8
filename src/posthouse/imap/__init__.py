"""Floor 1, pure: the IMAP engine (RFC 9051, RFC 3501). Bytes in, events out; no socket, no clock."""
