"""The commands: what each looks like (the parser) and what it is (an event for the session).

One file for each group of commands; `table.py` lists them all with the states they are allowed in.
A parser takes a `Cursor` that stands behind the command's name and returns the event, or raises
`BadSyntax`. Parsers know nothing of the session: what exists and who may do what is decided there.
"""
