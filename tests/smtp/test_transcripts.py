"""The server engine against the transcripts in tests/transcripts/smtp, at five chunk sizes."""

from pathlib import Path

import pytest

from posthouse.smtp import replies
from posthouse.smtp.server import ServerOptions
from tests.support.play import CHUNKS, load, play, transcripts
from tests.support.smtp_site import SmtpSite


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("path", transcripts("smtp"), ids=lambda path: path.stem)
def test_transcript(path: Path, chunk: int) -> None:
    transcript = load(path)
    settings = dict(transcript.settings)
    messages = settings.pop("messages", None)
    settings["mechanisms"] = tuple(settings.get("mechanisms", ()))
    settings["extensions"] = frozenset(settings.get("extensions", ()))
    site = SmtpSite(ServerOptions(hostname="mx.example.org", **settings))
    actions = {
        "greet": lambda: site.engine.greet(replies.greeting("mx.example.org")),
        "refuse": lambda: site.engine.greet(replies.Reply(554, "5.7.1", "Not from your address")),
        "tls": site.engine.tls_started,
        "timeout": lambda: site.engine.goodbye(replies.TIMEOUT),
    }
    play(transcript, site.engine, site.answer, chunk, actions)
    if messages is not None:
        assert [message.content.decode() for message in site.accepted] == messages
