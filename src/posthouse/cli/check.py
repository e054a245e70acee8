"""`posthouse check`: is what the store keeps consistent? Reads only, whether the server runs or not."""

from typing import Annotated

import typer

from posthouse.base.errors import Permanent
from posthouse.cli import opening, output

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def check(context: typer.Context, as_json: Json = False) -> None:
    """Look whether the store is consistent: counters, references, files, and the database itself.

    Nothing is changed. The exit code is 1 if something is wrong.
    """
    from posthouse.base.settings import storage_key
    from posthouse.store import check as stored
    from posthouse.store.blobs.files import BlobFiles, Keys
    from posthouse.store.sqlite import SqliteFile

    settings = opening.settings(context.obj)
    path = settings.data / "posthouse.db"
    if not path.is_file():
        raise Permanent(f"there is no database {path}; `posthouse serve` makes it")
    keys = Keys(storage_key(settings.storage))
    file = SqliteFile(path, keys, BlobFiles(settings.data / "blobs", keys, settings.storage.inline_max))
    try:
        found = file.read(stored.look)
    finally:
        file.close()
    well = f"All is well: {found.messages} messages, {found.blobs} contents."
    output.show(context.obj, as_json, ("Finding",), [(text,) for text in found.findings], well, ("Finding",))
    if found.findings:
        raise typer.Exit(1)
