"""The states of an SMTP connection, as bits, and how long a line may be: what engine and verbs share."""

# A verb's row has all the states it is allowed in.
NEW = 1  # not greeted yet
REFUSED = 2  # greeted with 554: only QUIT (RFC 5321 section 3.1)
OPEN = 4  # no EHLO yet
READY = 8
MAIL = 16  # sender accepted
RCPT = 32  # at least one recipient accepted
CONTENT = 64  # 354 sent, or within a chunk
AUTH = 128  # a challenge is out
TLS = 256  # 220 to STARTTLS sent, no handshake yet
CHUNKS = 512  # between two chunks
TRANSACTION = MAIL | RCPT | CHUNKS
GREETED = READY | TRANSACTION
ANY = OPEN | GREETED
COMMANDS = ANY | AUTH | REFUSED  # where a line is a command, or a response

# Octets of a line with its CRLF. RFC 5321 section 4.5.3.1.4: 512; extensions add to MAIL and RCPT
# (all that are registered stay below 2048); RFC 4954 section 4: 12288 for AUTH and what follows it.
COMMAND_LINE = 512
EXTENDED_LINE = 2048
AUTH_LINE = 12288
