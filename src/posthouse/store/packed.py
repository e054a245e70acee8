"""Long values in the trace, made short: what was found of who sent a message is 2 to 3 KB of JSON, most of it words
that all such values share, and every message of a stranger has one.

A packed value is a text: the number of its form, then a zstd frame in base64, as the column it lies in holds text. The
frame is made with `_DICTIONARY`, which the texts in databases need to be read: it never changes, a better one gets
another number. What cannot be read is None.
"""

import base64
import binascii
import json
import threading
from typing import Any

import zstandard

SHORT = 600  # octets of JSON that are not worth it
MOST = 1 << 20  # octets of a value that is read
_FORM = "1:"
_LEVEL = 6
_DICTIONARY = (
    '"},{"name":"_dmarc.com","kind":"TXT","failure":"no such domain"},{"name":"default._bimi.","kind":"TXT"},'
    '{"name":"._domainkey.","kind":"TXT","values":["v=DKIM1; k=rsa; t=s; h=sha256; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A'
    'MIIBCgKCAQEAIDAQAB;"]},{"name":"_dmarc.","kind":"TXT","values":["v=DMARC1; p=none; sp=quarantine; pct=100; '
    'adkim=r; aspf=r; fo=1; rua=mailto:dmarc@,mailto:reports@; ruf=mailto:"]},"dns_more":{"name":".in-addr.arpa",'
    '"kind":"PTR","values":["mail."]},{"name":".ip6.arpa","kind":"PTR","failure":"no answer"},{"name":"","kind":"AAAA",'
    '"values":["2a01:"]},{"name":"","kind":"MX","values":["10 mx."]},{"name":"mail.","kind":"A","values":["192.0.2."],'
    '"secure":true},{"name":"_spf.","kind":"TXT","values":["v=spf1 include:_spf.example.com include:spf. '
    'redirect=_spf. exists: ip4: ip6:2a00: a mx ?all ~all"]},"done":"quarantine","done":"reject","override":'
    '"mailing_list","because":"'
    '"bimi":{"result":"declined","domain":"","selector":"default","location":"https://.svg","evidence":"https://.pem"}'
    '"arc":{"result":"pass","sealers":[""],"sets":[{"instance":1,"sealer":"","selector":"arc-20240605","seal":"pass",'
    '"message":"pass","saw":"dkim=pass spf=pass dmarc=pass arc=none"}],"body_hash":"{"spf":[{"result":"softfail",'
    '"identity":"mailfrom","domain":"neutral","problem":" has no SPF record"},{"result":"none","identity":"helo",'
    '"domain":"mail.","problem":"mail. has no SPF record"}],"dkim":[{"result":"fail","reason":"the body was changed: '
    'its hash is not bh=","the header was changed, or the key is another: b= does not fit","weak":["a To field is not '
    'signed","a Cc field is not signed"],"testing":true},"a key of 1024 bits is short","ed25519-sha256","bits":256,'
    '{"spf":[{"result":"pass","identity":"mailfrom","domain":".com","record":"v=spf1 include:_spf. ip4: ~all",'
    '"mechanism":"ip4:"},{"result":"pass","identity":"helo","domain":"mail.","record":"v=spf1 a -all",'
    '"mechanism":"a"}],"dkim":[{"result":"pass","domain":".com","selector":"s1","identity":"","algorithm":"rsa-sha256",'
    '"bits":2048,"canon":"relaxed/simple","signed":"mime-version from date message-id subject to","canon":'
    '"relaxed/relaxed","signed":"from from reply-to subject subject date date to to cc cc message-id message-id '
    "in-reply-to references mime-version mime-version content-type content-type content-transfer-encoding list-id "
    'list-unsubscribe list-unsubscribe-post feedback-id","body_hash":"=","header_hash":"=","tag":"","aligned":true}],'
    '"iprev":{"result":"fail","reason":" has no name in the DNS"},"iprev":{"result":"pass","name":"mail."},"dmarc":'
    '{"result":"fail","author":".com","result":"pass","author":".com","policy":"none","policy_domain":".com",'
    '"organization":".com","record":"v=DMARC1; p=reject; rua=mailto:","aligned":["spf","dkim"],"because":["there is no '
    'DMARC record for ","the record of  applies to ","SPF proves , but it is not of the organization ","no domain that '
    'SPF or DKIM proves belongs to : it asks for ","it is of another organization","SPF proves , and it is the domain '
    'of From","DKIM proves , and it is the domain of From"]},"done":"none","sender":true,"dns":[{"name":".com",'
    '"kind":"TXT","values":["v=spf1 include:_spf.'
).encode("ascii")

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


class _Tools(threading.local):
    """One of each a thread: they are not for several."""

    def __init__(self) -> None:
        words = zstandard.ZstdCompressionDict(_DICTIONARY, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        words.precompute_compress(level=_LEVEL)
        self.compressor = zstandard.ZstdCompressor(dict_data=words, write_dict_id=False)
        self.decompressor = zstandard.ZstdDecompressor(dict_data=words)


_tools = _Tools()


def pack(value: Any) -> Any:
    """A value of JSON, packed if it is long."""
    text = _encode(value)
    if len(text) < SHORT:
        return value
    frame = _tools.compressor.compress(text.encode("utf-8", "replace"))
    return _FORM + base64.b64encode(frame).decode("ascii")


def unpack(text: str) -> Any:
    """What `pack` made a text of; None if it cannot be read."""
    if not text.startswith(_FORM):
        return None
    try:
        frame = base64.b64decode(text[len(_FORM) :], validate=True)
        return json.loads(_tools.decompressor.decompress(frame, max_output_size=MOST))
    except (binascii.Error, ValueError, zstandard.ZstdError, MemoryError):
        return None
