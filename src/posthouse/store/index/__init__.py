"""The search index: what messages say, in a database file of its own (search.db) beside the main one.

It can always be made again from the messages, so nothing waits for it: it is filled in the background, a search reads
what is not in it yet, and a file that is damaged, or of another version, is made anew.

`texts.py` has the texts of a message, for the index and for the scan in `store/search.py`: both see the same.
`rows.py` has the SQL, `query.py` turns search keys into questions to it, `file.py` keeps the file and its threads,
`gather.py` reads messages for it.
"""
