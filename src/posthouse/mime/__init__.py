"""Floor 1, pure: the message format (RFC 5322, 2045-2049, 2047, 2231)."""
