"""A policy of one's own: name this file in the configuration, `[filter]` `policy = "policy.py"`. See docs/filter.md."""

from posthouse.filter.hooks import Deliver, Headers, Mail, Rcpt, Verdict, defer, into, reject, tag

PARTNERS = ("@partner.example", "@bank.example")


def on_mail(mail: Mail) -> Verdict | None:
    """Partners have agreed to send with TLS only."""
    if mail.sender.endswith(PARTNERS) and not mail.tls:
        return defer("We agreed on TLS: please repair yours")
    return None


def on_rcpt(rcpt: Rcpt) -> Verdict | None:
    """The list of all is for our own people."""
    if rcpt.recipient.startswith("everybody@") and not rcpt.login:
        return reject("This list is for members")
    return None


async def on_headers(headers: Headers) -> Verdict | None:
    """Mark newsletters."""
    return tag("newsletter") if headers.get("List-Unsubscribe") else None


def on_deliver(copy: Deliver) -> Verdict | None:
    """And put them aside."""
    return into("Archive") if copy.get("List-Unsubscribe") else None
