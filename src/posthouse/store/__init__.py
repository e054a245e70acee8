"""Floor 2: all SQL and all blobs. Plain functions of a transaction; docs/architecture.md tells the model."""
