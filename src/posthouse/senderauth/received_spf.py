"""The Received-SPF field (RFC 7208 section 9.1): what SPF said about a message, for programs that read no
Authentication-Results. Pure. Everything in it that a peer or a domain wrote is cleaned and cut.
"""

import re

from posthouse.senderauth import authres
from posthouse.senderauth.spf import Result

NAME = "Received-SPF"
# dot-atom (RFC 5322 section 3.2.3): what needs no quotes
_dot_atom = re.compile(r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*", re.A).fullmatch
_receiver = re.compile(r"(?i)(?:\A|[\s;)])receiver\s*+=\s*+(\"(?:[^\"\\]++|\\.)*+\"|[^\s;]++)").finditer

_WHY = {
    "pass": "{} says that {} may send for it",
    "fail": "{} says that {} may not send for it",
    "softfail": "{} says that {} probably may not send for it",
    "neutral": "{} says nothing about {}",
    "none": "{} has no record that says whether {} may send for it",
    "temperror": "the DNS did not say whether {1} may send for {0}",
    "permerror": "the record of {} is wrong, so it says nothing about {}",
}


def render(said: Result, receiver: str, ip: str, helo: str, mail_from: str) -> bytes:
    """The field, folded, with its line end. `receiver` is our name, the others are what the client is and said."""
    why = authres.comment(f"{receiver}: {_WHY[said.result].format(said.domain or 'the sender', ip)}")
    pairs = {
        "receiver": receiver,
        "identity": said.identity,
        "client-ip": ip,
        "envelope-from": mail_from.removeprefix("<").removesuffix(">"),
        "helo": helo,
        "mechanism": said.mechanism,
        "problem": said.problem,
    }
    texts = [f"{key}={_value(value)}" for key, value in pairs.items() if value or key == "envelope-from"]
    return authres.fold(NAME, [f"{said.result} {why} {'; '.join(texts)}"])


def _value(text: str) -> str:
    text = authres.clean(text)
    return text if _dot_atom(text) and len(text) <= authres.MOST else authres.quoted(text)


def claims(name: bytes, value: bytes, ours: str) -> bool:
    """Whether a field claims to be written by us: programs behind us may believe it, so one from outside has to go."""
    if name.strip().lower() != NAME.lower().encode():
        return False
    text = value.decode("utf-8", "replace")
    return any(found[1].strip('"').rstrip(".").lower() == ours.lower().rstrip(".") for found in _receiver(text))
