"""Floor 1, with I/O: sockets, TLS, DNS, dialling. It knows no mail word."""
