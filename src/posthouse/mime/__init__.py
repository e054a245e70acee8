"""Floor 1, pure: the message format (RFC 5322, 2045-2049, 2047, 2231).

A message is scanned once (`scan`), into offsets; everything else works on the header bytes and the ranges
that the scan names (`sections`). Reading: `header`, `fields`, `addresses`, `words`, `bodies`, `text`,
`threads`, `tree`; writing: `compose`, `trace`; taking fields out: `removal`; writing anew for those who take less:
`downgrade`, `surrogate`. IMAP's view of a scan is `imap.structure`.

What holds for every function that reads:
- Bytes come in as they were sent. Text is made only by `words` and `text`, and never holds controls.
- Nothing raises, whatever the bytes; what cannot be read is left out or stands for itself.
- Time is linear in the input, memory is bounded: headers by the limits of the scanner, lists by number.
"""
