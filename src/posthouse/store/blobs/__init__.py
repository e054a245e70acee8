"""Contents of messages: immutable, compressed, found by hash, counted by reference.

A small content lies in its row (`inline_max`), a large one in a file of its own that is written and
synced before the row that names it is committed. So a row never points to a file that is not there,
and a file without a row is rubbish from a crash, which `sweep.py` removes.

`files.py` has the file format and the keys, `writer.py` takes a content in, `rows.py` has the SQL,
`sweep.py` collects what nobody needs.
"""
