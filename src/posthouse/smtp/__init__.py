"""Floor 1, pure: the SMTP engines, server and client (RFC 5321). No socket, no clock.

Bytes in, events out; replies in, bytes out. `server.SmtpServer` and `client.SmtpClient` are the engines,
`events` what the server asks, `replies` all that we answer. What the peer sends never makes an engine
raise, and an engine holds a bounded number of bytes as long as reading stops while `buffered` is large.
"""
