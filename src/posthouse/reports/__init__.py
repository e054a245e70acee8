"""Floor 1, pure: delivery status notifications and, later, other reports: written and read."""
