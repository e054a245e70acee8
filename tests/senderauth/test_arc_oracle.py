"""ARC of others: dkimpy, Mail::DKIM and mailauth go on with chains of ours, and we with theirs; all verify all."""

import asyncio
import json
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posthouse.senderauth.dkim import record_of
from tests.senderauth.chains import RELAYS, resolver, sealed, verified
from tests.senderauth.keys import MESSAGE, pem, rsa_key
from tests.support.clients import client, missing, package
from tests.support.nameserver import in_thread, strings

AR = (
    b"Authentication-Results: mx.two.test; dmarc=pass header.from=example.org; spf=pass smtp.mailfrom=a@example.org\r\n"
)
HEAD = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: s\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\n"
MESSAGES = {
    "usual": MESSAGE,
    "empty": HEAD + b"\r\n",
    "trailing": HEAD + b"\r\nline  \t two\t\r\n\r\n\r\n\r\n",
    "folded": HEAD + b"Cc: c@example.net,\r\n\td@example.net\r\nCC: again\r\n\r\nx\r\n",
    "8bit": HEAD + "MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n".encode(),
    "signed": b"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=rsa; h=from; bh=AAAA; b=AAAA\r\n"
    + HEAD
    + b"\r\nx\r\n",
}
LATER = 1 << 40  # they sign now
Judge = Callable[[bytes], str]
Seal = Callable[[bytes, str], bytes]


def both_ways(judge: Judge, seal: Seal) -> None:
    """Ours, then theirs, then ours: each is verified by both; and nobody verifies what was changed.

    With RSA alone: to the ARC of the first two Ed25519 is unknown, and the third signs more than the hash with it.
    """
    for name, message in MESSAGES.items():
        chain = sealed(message, "one.test", "rsa")
        assert judge(chain) == "pass", name
        assert judge(chain + b"x") == "fail", name
        chain = AR + chain
        chain = seal(chain, "pass") + chain
        assert verified(chain, now=LATER).word == "pass", name
        chain = sealed(chain, "three.test", "rsa", "pass")
        assert judge(chain) == "pass", name
        assert judge(chain.replace(b"i=1; mx.one.test", b"i=1; mx.six.test")) == "fail", name
        first = AR + message
        first = seal(first, "none") + first
        assert (judge(first), verified(first, now=LATER).word) == ("pass", "pass"), name
        assert verified(first + b"x", now=LATER).word == "fail"
    failed = sealed(sealed() + b"x")
    assert judge(failed) in ("fail", "invalid")


def test_dkimpy() -> None:
    dkimpy: Any = package("dkim")
    package("authres")  # with which dkimpy reads results

    def txt(name: bytes, timeout: float = 5) -> bytes:
        return asyncio.run(resolver().txt(name.decode().removesuffix(".")))[0]

    def judge(message: bytes) -> str:
        cv, _, reason = dkimpy.arc_verify(message, dnsfunc=txt)
        return str(cv.decode()) if cv else f"none: {reason}"

    def seal(message: bytes, cv: str) -> bytes:
        fields = dkimpy.arc_sign(message, b"rsa", b"two.test", pem(rsa_key()), b"mx.two.test")
        return b"".join(fields)

    both_ways(judge, seal)


PERL = r"""
use strict; use warnings;
use Net::DNS; use Mail::DKIM::DNS;
my ($mode, $port, $cv, $key) = @ARGV;
binmode STDIN; binmode STDOUT;
my $message = do { local $/; <STDIN> };
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => ['127.0.0.1'], port => $port));
if ($mode eq 'verify') {
    require Mail::DKIM::ARC::Verifier;
    my $judge = Mail::DKIM::ARC::Verifier->new; $judge->PRINT($message); $judge->CLOSE;
    print $judge->result;
} else {
    require Mail::DKIM::ARC::Signer;
    my $sealer = Mail::DKIM::ARC::Signer->new(Algorithm => 'rsa-sha256', Chain => $cv, Domain => 'two.test',
        SrvId => 'mx.two.test', Selector => 'rsa', KeyFile => $key);
    $sealer->PRINT($message); $sealer->CLOSE;
    die $sealer->result_detail unless $sealer->result eq 'sealed';
    my $fields = $sealer->as_string; $fields =~ s/\r?\n/\r\n/g; $fields =~ s/(\r\n)*\z/\r\n/; print $fields;
}
"""


def keys() -> dict[str, str]:
    return {f"rsa._domainkey.{domain}": record_of(rsa_key()) for domain in RELAYS}


@pytest.fixture
def dns() -> Iterator[str]:
    with in_thread({(f"{name}.", "TXT"): [strings(text)] for name, text in keys().items()}) as port:
        yield str(port)


def test_mail_dkim(dns: str, tmp_path: Path) -> None:
    perl = client("perl")
    if subprocess.run([perl, "-MMail::DKIM::ARC::Signer", "-e1"], capture_output=True, check=False).returncode:
        missing("the Perl module Mail::DKIM (libmail-dkim-perl) is not installed")
    (tmp_path / "script").write_text(PERL)
    (tmp_path / "key").write_bytes(pem(rsa_key()))

    def call(message: bytes, *arguments: str) -> bytes:
        done = subprocess.run(
            [perl, str(tmp_path / "script"), *arguments], input=message, capture_output=True, timeout=60, check=False
        )
        assert not done.returncode, done.stderr.decode()
        return done.stdout

    both_ways(
        lambda message: call(message, "verify", dns).decode(),
        lambda message, cv: call(message, "seal", dns, cv, str(tmp_path / "key")),
    )


NODE = r"""
const { dkimVerify } = require('mailauth/lib/dkim/verify');
const { arc, sealMessage } = require('mailauth/lib/arc');
const keys = JSON.parse(process.argv[2]);
const resolver = async (name) => {
  if (keys[name]) return [[keys[name]]];
  const error = new Error('no such name'); error.code = 'ENOTFOUND'; throw error;
};
const answer = async (line) => {
  const asked = JSON.parse(line), message = Buffer.from(asked.message, 'base64');
  if (asked.mode === 'verify') {
    const seen = await dkimVerify(message, { resolver, minBitLength: 1024 });
    return (await arc(seen.arc, { resolver, minBitLength: 1024 })).status.result;
  }
  const made = await sealMessage(message, { signingDomain: 'two.test', selector: 'rsa', privateKey: asked.key,
    algorithm: 'rsa-sha256', cv: asked.cv, authResults: 'mx.two.test; dmarc=pass header.from=example.org' });
  return made.toString('base64');
};
require('readline').createInterface({ input: process.stdin }).on('line', async (line) => {
  try { console.log(await answer(line)); } catch (error) { console.log('error: ' + error.message); }
});
"""


@pytest.mark.slow
def test_mailauth(tmp_path: Path) -> None:
    node, npm = client("node"), client("npm")
    done = subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund", "mailauth@4.13.3"],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    if done.returncode:
        missing(f"mailauth cannot be installed: {done.stderr.strip()[-300:] or 'no package registry'}")
    (tmp_path / "judge.js").write_text(NODE)
    with subprocess.Popen(
        [node, "judge.js", json.dumps(keys())], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:

        def call(message: bytes, **more: str) -> str:
            assert running.stdin is not None
            assert running.stdout is not None
            running.stdin.write(json.dumps({"message": b64encode(message).decode(), **more}) + "\n")
            running.stdin.flush()
            return running.stdout.readline().strip()

        both_ways(
            lambda message: call(message, mode="verify"),
            lambda message, cv: b64decode(call(message, mode="seal", cv=cv, key=pem(rsa_key()).decode())),
        )
        assert running.stdin is not None
        running.stdin.close()
