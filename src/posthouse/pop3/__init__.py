"""Floor 1, pure: the POP3 protocol engine (RFC 1939, RFC 2449, RFC 2595, RFC 5034, RFC 6856). Bytes in, events out.

`server.Pop3Server` is the engine, `events` what it asks its session, `replies` what is said (and `languages` in which),
`maildrop.Maildrop` the messages as one session sees them. Passwords, storage and time are not here.
"""
