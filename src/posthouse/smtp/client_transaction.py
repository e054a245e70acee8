"""One message that `SmtpClient` sends: the commands that begin it, and what became of each recipient. Pure.

`begin` knows what the server offers, and decides here what never goes to one that does not offer it: addresses and
headers that need SMTPUTF8, binary content, what must not be lost on the way, and what is too large (RFC 1870). Nothing
raises: whoever gets no command has a result that says why.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from posthouse.smtp.client_events import Result
from posthouse.smtp.params import NO_RCPT_PARAMS, MailParams, RcptParams, write_mail, write_rcpt
from posthouse.smtp.replies import Reply
from posthouse.wire.address import Address, parse_path

BAD_ADDRESS = Reply(553, "5.1.3", "This is not an address that SMTP can carry")
UTF8_NOT_OFFERED = Reply(553, "5.6.7", "An address or the header is not ASCII: SMTPUTF8 is not offered")
BINARY_NOT_OFFERED = Reply(554, "5.6.1", "The message is binary: BINARYMIME and CHUNKING are not offered")


class Command(NamedTuple):
    """A command, or its place where the line went out already."""

    name: str  # as in `client.TIMEOUTS`
    line: str
    recipient: int = -1  # RCPT: which


class Transaction:
    """One message on its way. Each recipient has its result, or None as long as it has none."""

    __slots__ = ("accepted", "recipients", "refusal", "results")

    def __init__(self, recipients: Sequence[str]) -> None:
        self.recipients = recipients
        self.results: list[Result | None] = [None] * len(recipients)
        self.accepted: list[int] = []  # RCPT was answered 2yz
        self.refusal: Reply | None = None  # of MAIL

    def decide(self, index: int, reply: Reply, command: str, remote: bool) -> None:
        """The result of a recipient, unless it has one."""
        if self.results[index] is None:
            self.results[index] = Result(self.recipients[index], reply, command, remote)

    def decide_rest(self, reply: Reply, command: str, remote: bool) -> None:
        """The result of all who have none."""
        for index in range(len(self.results)):
            self.decide(index, reply, command, remote)

    def begin(
        self,
        extensions: Mapping[str, str],
        sender: str,
        *,
        size: int | None,
        eight_bit: bool,
        smtputf8: bool,
        mail: MailParams,
        rcpt: Sequence[RcptParams],
    ) -> list[Command]:
        """MAIL and RCPT, for a server with these extensions; none if there is nobody to whom it may go. The arguments
        are those of `SmtpClient.send`."""
        reverse_path = _path(sender)
        utf8 = "SMTPUTF8" in extensions
        binary = mail.body == "BINARYMIME"
        asked = write_mail(mail, extensions)
        refusal = asked.refusal
        limit = extensions.get("SIZE", "")
        if reverse_path is None or not self.recipients:
            refusal = BAD_ADDRESS
        elif size is not None and limit.isdecimal() and 0 < int(limit[:20]) < size:
            refusal = Reply(552, "5.3.4", f"The message has {size} octets; the server takes {limit} at most")
        elif (smtputf8 or not reverse_path.is_ascii) and not utf8:
            refusal = UTF8_NOT_OFFERED
        elif binary and not ("BINARYMIME" in extensions and "CHUNKING" in extensions):
            refusal = BINARY_NOT_OFFERED
        if refusal is not None or reverse_path is None:
            self.decide_rest(refusal or BAD_ADDRESS, "MAIL", False)
            return []
        commands = []
        for index, recipient in enumerate(self.recipients):
            path = _path(recipient)
            if path is None or not path.local_part:
                self.decide(index, BAD_ADDRESS, "RCPT", False)
            elif not path.is_ascii and not utf8:
                self.decide(index, UTF8_NOT_OFFERED, "RCPT", False)
            else:
                smtputf8 = smtputf8 or not path.is_ascii
                words = write_rcpt(rcpt[index] if rcpt else NO_RCPT_PARAMS, extensions)
                commands.append(Command("RCPT", f"RCPT TO:<{path}>{words.text}", index))
        if not commands:
            return []
        line = f"MAIL FROM:<{reverse_path}>"
        if size is not None and "SIZE" in extensions:
            line += f" SIZE={size}"
        if binary:
            line += " BODY=BINARYMIME"
        elif eight_bit and "8BITMIME" in extensions:
            line += " BODY=8BITMIME"
        if smtputf8 or not reverse_path.is_ascii:
            line += " SMTPUTF8"
        return [Command("MAIL", line + asked.text), *commands]


def _path(text: str) -> Address | None:
    # Through the parser, so that no address, wherever it came from, can carry a command.
    return parse_path(f"<{text}>".encode("utf-8", "replace"), True)
