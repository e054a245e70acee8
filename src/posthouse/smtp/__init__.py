"""Floor 1, pure: the SMTP engines, server and client (RFC 5321). Bytes in, events out; no socket, no clock."""
