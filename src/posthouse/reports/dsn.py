"""Delivery status notifications: bounces and delay warnings that people understand (RFC 3464, RFC 6522).

A report has three parts: plain words (what happened, what to do, what the other server said, verbatim),
the fields that programs read, and the header of the message it is about. It goes to the reverse-path of
that message with a null reverse-path of its own; that, and not answering <> at all, is for `queue`.
Nothing fails: what a remote server said is cleaned before it becomes part of a field.
"""

import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from posthouse.mime import compose, header, trace, words

# Of the original header, so much comes along; real ones are a few KiB.
MAX_HEADER = 64 * 1024
_WIDTH = 76

_unprintable = re.compile(r"[^ -~]")
_control = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_bare = re.compile(rb"\r\n|[\r\n]")


class FailedRecipient(NamedTuple):
    """One recipient and what became of it. Not only failed ones: see `action`."""

    address: str
    status: str  # "5.1.1" (RFC 3463)
    diagnostic: str = ""  # what the remote server said, verbatim with its code; "" if it said nothing
    remote_host: str = ""  # which server: "mx.example.org"
    why: str = ""  # in plain words, where nobody else said it: "no server of example.org answered"
    action: str = "failed"  # "failed", "delayed", "delivered", "relayed" or "expanded" (RFC 3464 section 2.3.3)
    last_attempt: int = 0  # microseconds; 0: not said
    retry_until: int = 0  # for "delayed"
    original: str = ""  # ORCPT: "rfc822;bob@example.org"
    # Sentences of one who knows more than the status says; without them it is explained (`explain`).
    what: str = ""  # what happened
    cure: str = ""  # what the sender can do
    operator: str = ""  # what the postmaster of the sender can do


class Original(NamedTuple):
    """The message that the report is about."""

    header: bytes  # its header, as it is; a body behind it is cut off, unless all of it is to go back
    arrived: int = 0  # microseconds; 0: not said
    envid: str = ""
    full: bool = False  # RET=FULL: the whole message is in `header` and goes back
    id: str = ""  # by which those who can help find it; "": by the id of the report


def report(
    *,
    to: str,
    hostname: str,
    now: int,
    message_id: str,
    original: Original,
    recipients: Sequence[FailedRecipient],
    double: bool = False,
) -> bytes:
    """The whole message, CRLF throughout. All recipients have the same action: write one report for each.

    `message_id` is without its brackets. `double`: the message has no sender that it could go back to, and `to` is the
    postmaster.
    """
    head = _header_of(original.header)
    subject = _readable(words.decode(header.find(head, b"Subject") or b"").strip())
    action = recipients[0].action if recipients else "failed"
    parts = [
        compose.part(
            "text/plain; charset=utf-8",
            _text(hostname, now, message_id, subject, recipients, original, "double" if double else action),
        ),
        compose.part("message/delivery-status", _status_fields(hostname, original, recipients)),
        _returned(original, head),
    ]
    fields = [("Auto-Submitted", "auto-replied")]  # RFC 3834 section 5
    if replied := header.find(head, b"Message-ID"):
        about = header.unfold(replied).strip().decode("ascii", "replace")[:900]
        fields += [("In-Reply-To", about), ("References", about)]
    return compose.whole(
        compose.multipart("report", parts, "; report-type=delivery-status"),
        sender=compose.mailbox(f"mailer-daemon@{hostname}", "Mail Delivery System"),
        to=[to],
        subject=": ".join(word for word in (_SUBJECTS["double" if double else action], subject[:200]) if word),
        date=now,
        message_id=message_id,
        fields=fields,
    )


def _returned(original: Original, head: bytes) -> bytes:
    """The message, or its header alone (RFC 3461 section 6.1; a header that is not ASCII: RFC 6533 section 4)."""
    if original.full:
        return compose.part(
            "message/rfc822" if head.isascii() else "message/global", _bare.sub(b"\r\n", original.header)
        )
    return compose.part("text/rfc822-headers", head)


_SUBJECTS = {
    "failed": "Not delivered",
    "delayed": "Delayed, still trying",
    "delivered": "Delivered",
    "relayed": "Passed on",
    "expanded": "Delivered to a list",
    "double": "Not delivered, and nobody to tell",
}


# In plain words


def _text(
    hostname: str,
    now: int,
    message_id: str,
    subject: str,
    recipients: Sequence[FailedRecipient],
    original: Original,
    action: str,
) -> bytes:
    many = len(recipients) > 1
    which = f'Your message "{subject[:200]}"' if subject else "Your message"
    if original.arrived:
        which += f" of {trace.date_time(original.arrived)}"
    paragraphs = [f"This is the mail system of {hostname}."]
    if action == "failed":
        paragraphs.append(f"{which} was NOT delivered to {'these recipients' if many else 'this recipient'}:")
    elif action == "double":
        paragraphs.append(
            f"A message{which.removeprefix('Your message')} was NOT delivered to "
            f"{'these recipients' if many else 'this recipient'}. It is a report itself, or came without a sender, so "
            "there is nobody to return it to. You get this because `queue.double_bounces` is on."
        )
    elif action == "delayed":
        paragraphs.append(
            f"{which} has not been delivered yet to {'these recipients' if many else 'this recipient'}. "
            "You need not do anything: we keep trying"
            + (f" until {trace.date_time(recipients[0].retry_until)}" if recipients[0].retry_until else "")
            + ", and tell you if it fails for good."
        )
    else:
        paragraphs.append(f"{which} went its way. You had asked to be told.")
    lines = _wrap(paragraphs)
    for recipient in recipients:
        lines += ["", f"<{_readable(recipient.address)}>", *_about(recipient)]
    which = original.id or message_id
    lines += ["", *_wrap([f"If you ask your postmaster for help, say this: {which}, {trace.date_time(now)}."])]
    whose = "the message" if action == "double" else "your message"
    lines += [f"{whose.capitalize()} is attached." if original.full else f"The header of {whose} is attached."]
    return "\r\n".join([*lines, ""]).encode("utf-8", "replace")


def _about(recipient: FailedRecipient) -> list[str]:
    what, cure = explain(recipient.status)
    what, cure = recipient.what or what, recipient.cure or cure
    lines = []
    if recipient.action in ("failed", "delayed"):
        lines += _wrap([what, _readable(recipient.why)], "    ")
        if recipient.action == "failed":
            lines += _wrap([f"What to do: {cure}"], "    ")
            if recipient.operator:
                lines += _wrap([f"For your postmaster: {recipient.operator}"], "    ")
    elif recipient.action == "delivered":
        lines += _wrap(["Delivered into the mailbox."], "    ")
    elif recipient.action == "expanded":
        lines += _wrap(["Passed on to the members of this list, who are not reported one by one."], "    ")
    elif recipient.action == "relayed":
        lines += _wrap(["Passed on to a server that does not report back."], "    ")
    if recipient.diagnostic:
        server = f"The server {_readable(recipient.remote_host)}" if recipient.remote_host else "The other server"
        lines += ["", f"    {server} said:"]
        lines += [f"      {_unprintable.sub('?', line)[:900]}" for line in recipient.diagnostic.splitlines()[:50]]
    return lines


def _readable(text: str) -> str:
    return _control.sub("?", text)


def _wrap(paragraphs: Sequence[str], indent: str = "") -> list[str]:
    lines: list[str] = []
    for paragraph in paragraphs:
        if paragraph:
            # A word may be an address: it stays whole.
            lines += textwrap.wrap(
                paragraph,
                _WIDTH,
                initial_indent=indent,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
            if not indent:
                lines.append("")
    return lines[:-1] if lines and not lines[-1] else lines


# What each status means to the person who sent the message (RFC 3463 and the IANA registry of enhanced
# status codes), and what that person can do. Looked up by subject and detail: "1.1" of 5.1.1 and 4.1.1.
_ASK = "Reach the recipient another way, and pass on what is written here."
_LATER = "Send the message again later."
_POSTMASTER = "Show this message to your postmaster."
_OPEN = "If it may be read on its way, send it again without requiring TLS. Else reach the recipient another way."
_MEANINGS: dict[str, tuple[str, str]] = {
    "1.0": ("The address was refused.", "Check the spelling of the address."),
    "1.1": (
        "The address does not exist at the recipient's server.",
        "Check the spelling of the address, or ask the recipient for a new one.",
    ),
    "1.2": (
        "The domain of the address does not exist or takes no mail.",
        "Check the spelling of the part after the @.",
    ),
    "1.3": ("The address is not written correctly.", "Check the spelling of the address."),
    "1.6": ("The recipient has moved and left no new address.", "Ask the recipient for the new address."),
    "1.7": ("The other server refused the sender's address.", _POSTMASTER),
    "1.8": ("The other server does not believe that the sender's domain exists.", _POSTMASTER),
    "1.10": ("The recipient's domain says that it takes no mail.", "Ask the recipient for another address."),
    "2.0": ("The recipient's mailbox could not take the message.", _ASK),
    "2.1": ("The recipient's mailbox is disabled.", _ASK),
    "2.2": ("The recipient's mailbox is full.", "Send it again later, or reach the recipient another way."),
    "2.3": ("The message is too big for the recipient's mailbox.", "Send a smaller message, or a link to the files."),
    "3.1": ("The other server has no room at the moment.", _LATER),
    "3.4": ("The message is too big for the other server.", "Send a smaller message, or a link to the files."),
    "4.1": ("No server of the recipient's domain could be reached.", "Check the part after the @, or try again later."),
    "4.2": ("The connection to the other server broke again and again.", _LATER),
    "4.3": ("The directory of names (DNS) gave no usable answer for the recipient's domain.", _LATER),
    "4.4": ("There is no way to the recipient's domain.", "Check the spelling of the part after the @."),
    "4.6": ("The message went in circles between servers.", _POSTMASTER),
    "4.7": ("We tried for as long as we may, and gave up.", "Send it again later, or reach the recipient another way."),
    "5.3": ("There were too many recipients for one message.", "Send it to fewer recipients at a time."),
    "6.0": ("The other server could not take the content of the message.", _ASK),
    "6.7": (
        "The other server cannot take addresses beyond plain ASCII.",
        "Ask the recipient for an address in plain letters.",
    ),
    "7.0": ("The other server refused the message for reasons of security.", _ASK),
    "7.1": (
        "The other server refused the message: it does not take it from you, or finds it suspect.",
        "Read what the server said. " + _ASK,
    ),
    "7.4": ("No secure connection to the other server was possible, and one is required.", _POSTMASTER),
    "7.5": ("No secure connection to the other server was possible, and one is required.", _POSTMASTER),
    "7.10": ("The message asked for TLS all the way, and there is no safe TLS to the recipient's server.", _OPEN),
    "7.30": ("The message asked for TLS all the way, and the way to the recipient does not promise it.", _OPEN),
    "7.23": ("The other server found that we may not send for this domain (SPF).", _POSTMASTER),
    "7.25": ("The other server wants a name for our address (reverse DNS).", _POSTMASTER),
    "7.26": ("The other server found the message not authentic (SPF, DKIM, DMARC).", _POSTMASTER),
    "7.28": ("The other server finds that too much mail comes from here.", _LATER),
}
_SUBJECT_OF_STATUS = {
    "1": ("The address was refused.", "Check the spelling of the address."),
    "2": ("The recipient's mailbox could not take the message.", _ASK),
    "3": ("The other server could not take the message.", _LATER),
    "4": ("The message could not be brought to the other server.", _LATER),
    "5": ("The servers did not understand each other.", _POSTMASTER),
    "6": ("The other server could not take the content of the message.", _ASK),
    "7": ("The other server refused the message for reasons of policy.", "Read what the server said. " + _ASK),
}


def explain(status: str) -> tuple[str, str]:
    """What an enhanced status code means, and what the sender can do, in plain words."""
    _, _, detail = status.partition(".")
    known = _MEANINGS.get(detail) or _SUBJECT_OF_STATUS.get(detail.partition(".")[0])
    return known or ("The other server refused the message.", _ASK)


# For programs


def _status_fields(hostname: str, original: Original, recipients: Sequence[FailedRecipient]) -> bytes:
    """The body of message/delivery-status: fields of the message, then a group for each recipient."""
    fields = []
    if original.envid:
        fields.append(("Original-Envelope-Id", _one_line(original.envid)))
    fields.append(("Reporting-MTA", f"dns; {hostname}"))
    if original.arrived:
        fields.append(("Arrival-Date", trace.date_time(original.arrived)))
    groups = [fields]
    for recipient in recipients:
        fields = []
        if recipient.original:
            kind, _, address = recipient.original.partition(";")
            fields.append(("Original-Recipient", f"{_one_line(kind)};{_one_line(address)}"))
        fields.append(("Final-Recipient", _typed(recipient.address)))
        fields.append(("Action", recipient.action))
        fields.append(("Status", recipient.status or "5.0.0"))
        if recipient.remote_host:
            fields.append(("Remote-MTA", f"dns; {_one_line(recipient.remote_host)}"))
        if recipient.diagnostic:
            # One reply line a line: the field is folded where the reply was.
            said = [_one_line(line)[:900] for line in recipient.diagnostic.splitlines()[:50]]
            fields.append(("Diagnostic-Code", "smtp; " + "\r\n    ".join(line for line in said if line.strip())))
        if recipient.last_attempt:
            fields.append(("Last-Attempt-Date", trace.date_time(recipient.last_attempt)))
        if recipient.retry_until and recipient.action == "delayed":
            fields.append(("Will-Retry-Until", trace.date_time(recipient.retry_until)))
        groups.append(fields)
    text = "\r\n".join(["".join([f"{name}: {value}\r\n" for name, value in group]) for group in groups])
    return text.encode("ascii", "replace")


def _one_line(text: str) -> str:
    return _unprintable.sub("?", text)


def _typed(address: str) -> str:
    # RFC 6533 section 3: utf-8-addr-xtext keeps the field ASCII.
    if address.isascii():
        return f"rfc822; {_one_line(address)}"
    return "utf-8; " + "".join([c if "!" <= c <= "~" and c not in "+=\\" else f"\\x{{{ord(c):02X}}}" for c in address])


def _header_of(message: bytes) -> bytes:
    """The header alone, with CRLF, cut at the end of a line if it is very long."""
    head = _bare.sub(b"\r\n", message[:MAX_HEADER])
    end = 0 if head.startswith(b"\r\n") else head.find(b"\r\n\r\n")
    if end >= 0:
        return head[: end + 2] if end else b""
    if len(message) > MAX_HEADER:
        return head[: head.rfind(b"\r\n") + 2]
    return head if head.endswith(b"\r\n") or not head else head + b"\r\n"
