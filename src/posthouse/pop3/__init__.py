"""Floor 1, pure: the POP3 engine (RFC 1939, 2449, 2595). Bytes in, events out; no socket, no clock."""
