"""Conversations with the POP3 engine, at every chunk size."""

import pytest

from posthouse.pop3.events import Login, StartTls
from tests.pop3.play import LOGIN, PLAIN_PORT, STEPS, Player, play

CONVERSATIONS = {
    "login and quit": LOGIN
    + """
    C: quit
    S: +OK Bye
    """,
    "wrong password, then the right one": """
    S: +OK …
    C: USER bob
    S: +OK …
    C: PASS guess
    S: -ERR [AUTH] Wrong name or password
    C: PASS guess
    S: -ERR Send USER first
    C: USER bob
    S: +OK …
    C: PASS secret word
    S: +OK 3 messages, 100 octets
    """,
    "states": """
    S: +OK …
    C: STAT
    S: -ERR Not possible in this state
    C: RETR 1
    S: -ERR Not possible in this state
    C: PASS x
    S: -ERR Send USER first
    C: USER
    S: -ERR Wrong arguments
    C: HELP
    S: -ERR Unknown command
    C: QUIT
    S: +OK Bye
    """,
    "no second login": LOGIN
    + """
    C: USER bob
    S: -ERR Not possible in this state
    C: STLS
    S: -ERR Not possible in this state
    """,
    "stat, list, uidl": LOGIN
    + """
    C: STAT
    S: +OK 3 100
    C: LIST
    S: +OK Listing follows
    S: 1 57
    S: 2 16
    S: 3 27
    S: .
    C: LIST 2
    S: +OK 2 16
    C: UIDL
    S: +OK Listing follows
    S: 1 7.101
    S: 2 7.102
    S: 3 7.103
    S: .
    C: UIDL 3
    S: +OK 3 7.103
    """,
    "retrieve, with dots stuffed": LOGIN
    + """
    C: RETR 1
    S: +OK Message follows
    S: From: a@x.test
    S: Subject: one
    S:
    S: line 1
    S: ..line 2
    S: line 3
    S: .
    C: RETR 3
    S: +OK Message follows
    S: Subject: three
    S:
    S: ..
    S: ..
    S: ..
    S: .
    """,
    "top": LOGIN
    + """
    C: TOP 1 0
    S: +OK Message follows
    S: From: a@x.test
    S: Subject: one
    S:
    S: .
    C: TOP 1 2
    S: +OK Message follows
    S: From: a@x.test
    S: Subject: one
    S:
    S: line 1
    S: ..line 2
    S: .
    C: TOP 2 1000
    S: +OK Message follows
    S: Subject: two
    S:
    S: .
    C: TOP 1
    S: -ERR Wrong arguments
    C: TOP 1 -1
    S: -ERR Wrong arguments
    """,
    "delete": LOGIN
    + """
    C: DELE 2
    S: +OK Marked for deletion
    C: DELE 2
    S: -ERR Message is marked for deletion
    C: RETR 2
    S: -ERR Message is marked for deletion
    C: STAT
    S: +OK 2 84
    C: LIST
    S: +OK Listing follows
    S: 1 57
    S: 3 27
    S: .
    C: RSET
    S: +OK Nothing is marked for deletion
    C: STAT
    S: +OK 3 100
    C: DELE 3
    S: +OK …
    C: DELE 1
    S: +OK …
    C: QUIT
    S: +OK Bye
    """,
    "numbers": LOGIN
    + """
    C: RETR 0
    S: -ERR No such message
    C: RETR 4
    S: -ERR No such message
    C: RETR
    S: -ERR Wrong arguments
    C: RETR one
    S: -ERR Wrong arguments
    C: RETR 99999999999999999999
    S: -ERR Wrong arguments
    C: LIST -1
    S: -ERR Wrong arguments
    C: LIST 00002
    S: +OK 2 16
    C: NOOP
    S: +OK OK
    """,
    "capabilities under TLS": """
    S: +OK …
    C: capa
    S: +OK Capability list follows
    S: TOP
    S: UIDL
    S: PIPELINING
    S: RESP-CODES
    S: AUTH-RESP-CODE
    S: EXPIRE NEVER
    S: UTF8 USER
    S: LANG
    S: IMPLEMENTATION Posthouse
    S: USER
    S: SASL PLAIN LOGIN
    S: .
    """,
    "languages": """
    S: +OK …
    C: LANG MUL
    S: -ERR This language is not spoken here
    C: LANG
    S: +OK Language listing follows
    S: en English
    S: de Deutsch
    S: .
    C: lang de-AT
    S: +OK de Ab jetzt wird diese Sprache gesprochen
    C: LANG uga
    S: -ERR Diese Sprache wird hier nicht gesprochen
    C: HELP
    S: -ERR Unbekannter Befehl
    C: USER bob
    S: +OK Nun das Kennwort
    C: PASS guess
    S: -ERR [AUTH] Name oder Kennwort falsch
    C: USER bob
    S: +OK …
    C: PASS secret word
    S: +OK 3 Nachrichten, 100 Oktette
    C: DELE 1
    S: +OK Zum Löschen vorgemerkt
    C: LANG en de
    S: -ERR Falsche Angaben
    C: LANG *
    S: +OK en This language is spoken from now on
    C: RSET
    S: +OK Nothing is marked for deletion
    """,
    "utf-8": """
    S: +OK …
    C: UTF8 now
    S: -ERR Wrong arguments
    C: UTF8
    S: +OK UTF-8 from now on
    C: UTF8
    S: +OK UTF-8 from now on
    C: USER böb
    S: +OK …
    C: PASS geheimes Wört
    S: -ERR [AUTH] Wrong name or password
    C: USER bob
    S: +OK …
    C: PASS secret word
    S: +OK …
    C: UTF8
    S: -ERR Not possible in this state
    """,
    "sasl plain with an initial response": """
    S: +OK …
    C: AUTH PLAIN AGJvYgBzZWNyZXQgd29yZA==
    S: +OK 3 messages, 100 octets
    """,
    "sasl plain without": """
    S: +OK …
    C: auth plain
    S: +…
    C: AGJvYgBzZWNyZXQgd29yZA==
    S: +OK 3 messages, 100 octets
    """,
    "sasl login": """
    S: +OK …
    C: AUTH LOGIN
    S: + VXNlcm5hbWU6
    C: Ym9i
    S: + UGFzc3dvcmQ6
    C: c2VjcmV0IHdvcmQ=
    S: +OK 3 messages, 100 octets
    """,
    "sasl mistakes": """
    S: +OK …
    C: AUTH PLAIN
    S: +…
    C: *
    S: -ERR Authentication cancelled
    C: AUTH PLAIN
    S: +…
    C: not base64!
    S: -ERR Response is not base64
    C: AUTH PLAIN %%%
    S: -ERR Response is not base64
    C: AUTH PLAIN =
    S: -ERR [AUTH] Malformed authentication message
    C: AUTH PLAIN AGJvYgBndWVzcw==
    S: -ERR [AUTH] Wrong name or password
    C: AUTH KERBEROS_V4
    S: -ERR Unknown authentication mechanism
    C: AUTH
    S: +OK Mechanisms follow
    S: PLAIN
    S: LOGIN
    S: .
    """,
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversations(name: str, step: int) -> None:
    play(CONVERSATIONS[name], step)


@pytest.mark.parametrize("step", STEPS)
def test_without_tls_no_password_is_taken(step: int) -> None:
    player = play(
        """
        S: +OK …
        C: CAPA
        S: +OK …
        S: TOP
        S: UIDL
        S: PIPELINING
        S: RESP-CODES
        S: AUTH-RESP-CODE
        S: EXPIRE NEVER
        S: UTF8 USER
        S: LANG
        S: IMPLEMENTATION Posthouse
        S: STLS
        S: .
        C: USER bob
        S: -ERR [AUTH] Passwords are taken over TLS only: use STLS
        C: AUTH PLAIN AGJvYgBzZWNyZXQgd29yZA==
        S: -ERR [AUTH] Passwords are taken over TLS only: use STLS
        C: AUTH
        S: +OK …
        S: .
        C: STLS now
        S: -ERR Wrong arguments
        C: STLS
        S: +OK Begin TLS negotiation
        --
        C: STLS
        S: -ERR TLS is active already
        C: USER bob
        S: +OK …
        C: PASS secret word
        S: +OK 3 messages, 100 octets
        """,
        step,
        Player(PLAIN_PORT),
    )
    assert player.events == [StartTls(), Login("bob", "secret word")]
