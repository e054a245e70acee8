"""Floor 1, pure: what the line protocols share (addresses, SASL, dots, line buffer).

Import from the modules: `wire.address`, `wire.buffer`, `wire.dots`, `wire.sasl`.
"""
