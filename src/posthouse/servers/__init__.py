"""Floor 4: a protocol engine, a connection and the services, one file or package per protocol."""
