"""Floor 3: mail that goes out: routes, attempts, retries, bounces."""
