"""Floor 3: what to do with a message that arrives: resolve recipients, one transaction, one answer."""
