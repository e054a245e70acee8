"""Who sent this: what a message and the DNS say about the domains that answer for it. It decides nothing about mail."""
