"""Floor 1, pure: the SMTP engines, server and client (RFC 5321). No socket, no clock."""
