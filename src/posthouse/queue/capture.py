"""Mail to elsewhere that stays here (`relay.capture`): a file a message, for demos and tests."""

import os
from pathlib import Path
from typing import NamedTuple

from posthouse.base import ids
from posthouse.base.log import Logger
from posthouse.queue.results import DELIVERED, Report, Verdict
from posthouse.store.database import Database
from posthouse.store.outbox import Message


class Captured(NamedTuple):
    """What became of a message, and what is told to who wants to know at once."""

    report: Report
    facts: dict[str, object]


async def attempt(
    database: Database, folder: Path, message: Message, addresses: tuple[str, ...], content: bytes, log: Logger
) -> Captured:
    """Keep mail in `folder`, where a person can look at it."""
    name = ids.to_text(message.id)
    path = await database.work(keep, folder, name, message.sender, addresses, message.prefix + content)
    log.info("queue.captured", message=name, sender=message.sender, recipients=addresses, file=str(path))
    verdict = Verdict(DELIVERED, 250, "2.0.0", f"Captured in {path.name}", "captured", False)
    facts: dict[str, object] = {"id": name, "sender": message.sender, "recipients": addresses, "file": str(path)}
    return Captured(Report(dict.fromkeys(addresses, verdict)), facts)


def keep(folder: Path, name: str, sender: str, recipients: tuple[str, ...], message: bytes) -> Path:
    """Write a message with its envelope on top; return its file, which is on disk then. Blocks."""
    envelope = f"X-Envelope-From: <{sender}>\r\n" + "".join(f"X-Envelope-To: <{r}>\r\n" for r in recipients)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, number = folder / f"{name}.eml", 1
    while path.exists():  # the rest of its recipients, on a later day
        number += 1
        path = folder / f"{name}-{number}.eml"
    draft = folder / f".{name}.part"
    with open(draft, "wb") as file:
        file.write(envelope.encode("utf-8", "replace") + message)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
    return path
