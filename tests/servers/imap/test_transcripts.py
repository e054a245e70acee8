"""The transcripts in tests/transcripts/imap, over a real store, at five chunk sizes."""

import asyncio
from pathlib import Path

import pytest

from posthouse.base.settings import Imap
from tests.support.imap_play import Player, parse
from tests.support.imap_site import ImapSite
from tests.support.play import CHUNKS, transcripts
from tests.support.store import opened


@pytest.mark.parametrize("path", transcripts("imap"), ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    settings, lines = parse(path)

    async def run() -> None:
        for chunk in CHUNKS:
            async with opened() as database:
                others = dict.fromkeys(name for name in settings.get("users", ()) if name != "alice")
                site = await ImapSite.make(database, tuple(others), Imap(**settings.get("imap", {})))
                await Player(site, path.name, chunk).play(settings, lines)

    asyncio.run(run())
