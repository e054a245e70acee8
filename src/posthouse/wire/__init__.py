"""Floor 1, pure: what the line protocols share (addresses, SASL, dots, framing)."""
