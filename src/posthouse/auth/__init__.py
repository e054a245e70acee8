"""Floor 3: passwords and logins."""
