"""The grammar of commands: one pattern for each kind of arguments, with the ABNF it implements.

Patterns see one line without its CRLF, limited in length before. Addresses are `wire.address`,
parameters `params.py`.
"""

import re
from base64 import b64decode
from binascii import Error as Base64Error

# mail = "MAIL FROM:" Reverse-path [SP Mail-parameters] CRLF
# rcpt = "RCPT TO:" ( "<Postmaster@" Domain ">" / "<Postmaster>" / Forward-path ) [SP Rcpt-parameters] CRLF
# esmtp-param = esmtp-keyword ["=" esmtp-value]
# Loosened: spaces after the colon (many clients) and an address without brackets (printers, scripts).
# In a path, < and > may stand within quotes. Every repeat begins with another character than the one
# before it, so matching is linear.
_PATH = rb"<[^<>\"\x00-\x1f\x7f]*(?:\"(?:[^\"\\\x00-\x1f\x7f]|\\[ -~])*\"[^<>\"\x00-\x1f\x7f]*)*>"
_ARGS = rb": *(?:(" + _PATH + rb")|([^<>\" \x00-\x1f\x7f]+))((?: +[!-~\x80-\xff]+)*) *"
mail_args = re.compile(rb"(?i:FROM)" + _ARGS).fullmatch
rcpt_args = re.compile(rb"(?i:TO)" + _ARGS).fullmatch
# bdat-cmd ::= "BDAT" SP chunk-size [ SP end-marker ] CR LF ; chunk-size ::= 1*DIGIT
bdat_args = re.compile(rb" *([0-9]{1,20})( +(?i:LAST))? *").fullmatch
# burl-cmd = "BURL" SP absolute-URI [SP end-marker] CRLF      RFC 4468 section 3.1
burl_args = re.compile(rb" *([A-Za-z][A-Za-z0-9+.-]*:[!-~]{1,4096})( +(?i:LAST))? *").fullmatch
xclient_attribute = re.compile(rb"([A-Za-z]{1,16})=([!-~]+)").fullmatch
word = re.compile(rb"[!-~\x80-\xff]+").fullmatch
control = re.compile(rb"[\x00-\x1f\x7f]").search


def from_base64(text: bytes) -> bytes | None:
    """The octets behind base64, strictly; None if it is not base64."""
    try:
        return b64decode(text, validate=True)
    except Base64Error:
        return None
