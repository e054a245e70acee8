"""Floor 4: who may send what. Rules, rate limits, DNS lists, greylisting, checks of names, Python hooks.

`gate.Gate` is what an SMTP session asks; each of the others does one thing. Nothing here accepts mail that the session
would refuse: it only refuses, delays and marks.
"""
