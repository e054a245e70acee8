"""Floor 0: errors, clock, ids, log, settings. It imports nothing else of Posthouse."""
