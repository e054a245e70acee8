"""Mail to elsewhere that stays here (`relay.capture`): a file a message, for demos and tests."""

import os
from pathlib import Path


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
