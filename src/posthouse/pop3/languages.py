"""The languages of replies (RFC 6856 section 3): which there are, which one a client means, and what is said in them.

Every reply of `replies` has its translation here; a test sees to it. What a session makes up itself stays English.
"""

DEFAULT = "en"

# Language tag -> its name in itself.
LANGUAGES = {"en": "English", "de": "Deutsch"}

_GERMAN = {
    "OK": "OK",
    "Bye": "Auf Wiedersehen",
    "Begin TLS negotiation": "TLS kann beginnen",
    "Send the password": "Nun das Kennwort",
    "Capability list follows": "Es folgt, was dieser Server kann",
    "Listing follows": "Es folgt die Liste",
    "Mechanisms follow": "Es folgen die Verfahren",
    "Language listing follows": "Es folgen die Sprachen",
    "Message follows": "Es folgt die Nachricht",
    "Nothing is marked for deletion": "Nichts ist zum Löschen vorgemerkt",
    "Marked for deletion": "Zum Löschen vorgemerkt",
    "UTF-8 from now on": "Ab jetzt UTF-8",
    "Unknown command": "Unbekannter Befehl",
    "Not possible in this state": "In diesem Zustand nicht möglich",
    "Wrong arguments": "Falsche Angaben",
    "No such message": "Diese Nachricht gibt es nicht",
    "This language is not spoken here": "Diese Sprache wird hier nicht gesprochen",
    "Message is marked for deletion": "Die Nachricht ist zum Löschen vorgemerkt",
    "Message was removed by another client": "Die Nachricht wurde von einem anderen Programm gelöscht",
    "Line too long": "Zeile zu lang",
    "Lines must end with CR LF": "Zeilen müssen mit CR LF enden",
    "Too many errors": "Zu viele Fehler",
    "Nothing may follow STLS before the TLS handshake": "Nach STLS darf vor dem Beginn von TLS nichts kommen",
    "STLS comes before UTF8": "STLS kommt vor UTF8",
    "TLS is not available here": "TLS gibt es hier nicht",
    "TLS is active already": "TLS ist schon in Gebrauch",
    "Passwords are taken over TLS only: use STLS": "Kennwörter nur über TLS: STLS verwenden",
    "Send USER first": "Erst USER senden",
    "Unknown authentication mechanism": "Unbekanntes Anmeldeverfahren",
    "Response is not base64": "Die Antwort ist nicht base64",
    "Authentication cancelled": "Anmeldung abgebrochen",
    "Wrong name or password": "Name oder Kennwort falsch",
    "Logging in is not possible right now; try again in a minute": "Anmelden geht gerade nicht; in einer Minute wieder",
    "Malformed authentication message": "Fehlerhafte Anmeldung",
    "Another POP3 session has this mailbox": "Eine andere POP3-Sitzung hat dieses Postfach",
    "Some messages could not be removed": "Nicht alle Nachrichten konnten gelöscht werden",
    "The server is shutting down": "Der Server wird angehalten",
    "{} POP3 server ready": "{} POP3-Server bereit",
    "{} messages, {} octets": "{} Nachrichten, {} Oktette",
    "Logins are {} seconds apart here; wait a little": "Anmeldungen liegen hier {} Sekunden auseinander; bitte warten",
    "{} This language is spoken from now on": "{} Ab jetzt wird diese Sprache gesprochen",
    "Something went wrong here, try again later (session {})": "Hier ist etwas schiefgegangen, später noch einmal "
    "versuchen (Sitzung {})",
}
_TRANSLATIONS = {"de": _GERMAN}


def translated(text: str, language: str) -> str:
    """A reply in a language; English where it has no translation."""
    return _TRANSLATIONS[language].get(text, text) if language in _TRANSLATIONS else text


def chosen(wanted: str) -> str | None:
    """The language for a language range, by lookup (RFC 4647 section 3.4): "de-AT" is answered with "de".

    "*" is whatever the server likes best. None: there is none that fits.
    """
    if wanted == "*":
        return DEFAULT
    parts = wanted.lower().split("-")
    while parts:
        if (tag := "-".join(parts)) in LANGUAGES:
            return tag
        parts.pop()
        if parts and len(parts[-1]) == 1:  # a singleton says nothing by itself
            parts.pop()
    return None
