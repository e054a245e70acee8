"""mailauth, another implementation of RFC 9989: it says of random domains, records and proofs what we say."""

import asyncio
import json
import random
import subprocess
from pathlib import Path
from typing import Any

from posthouse.net.dns import ZoneResolver
from posthouse.senderauth import dkim as dkims
from posthouse.senderauth import spf as spfs
from posthouse.senderauth.dmarc import evaluate
from tests.support.clients import client, missing

VERSION = "7.1.0"
ROUNDS = 3000

# The cases come by standard input; the DNS is a table. "down" stands for no answer.
JUDGE = """
const verify = require('mailauth/lib/dmarc/verify');
async function main() {
  const said = [];
  for (const {zone, author, spf, dkim} of JSON.parse(require('fs').readFileSync(0))) {
    const fail = code => { throw Object.assign(new Error(code), {code}); };
    const resolver = async (name, kind) => {
      const there = zone[name];
      if (there === 'down') fail('ESERVFAIL');
      if (there === undefined) fail(Object.keys(zone).some(n => n.endsWith('.' + name)) ? 'ENODATA' : 'ENOTFOUND');
      if (kind !== 'TXT') fail('ENODATA');
      return there.map(text => [text]);
    };
    const found = await verify({
      headerFrom: ['a@' + author], resolver,
      spfDomains: spf.map(domain => ({domain})), dkimDomains: dkim.map(domain => ({domain})),
    });
    const passed = side => Boolean(found.alignment && found.alignment[side].result);
    const word = found.status.result;
    const policy = word === 'none' || word === 'temperror' ? '' : found.policy;
    said.push({word, policy, where: found.policyDomain || '', aligned: [passed('spf'), passed('dkim')]});
  }
  require('fs').writeFileSync('said.json', JSON.stringify(said));
}
main().then(() => process.exit(0), error => { console.error(error); process.exit(1); });
"""

TAGS = {
    "p": ["none", "quarantine", "reject", "reject", "Reject", "x"],
    "sp": ["none", "quarantine", "reject", "y"],
    "np": ["none", "quarantine", "reject"],
    "adkim": ["r", "s"],
    "aspf": ["r", "s", "z"],
    "t": ["y", "n"],
    "psd": ["y", "n", "u"],
    "rua": ["mailto:a@example.org", "nonsense"],
    "ri": ["3600"],
}


def name(chance: random.Random) -> str:
    labels = [chance.choice("abc") for _ in range(chance.choice([0, 0, 1, 1, 2, 3, 8]))]
    return ".".join([*labels, chance.choice(["one", "one", "two"]), "example"])


def record(chance: random.Random) -> str:
    tags = [f"{tag}={chance.choice(TAGS[tag])}" for tag in TAGS if chance.random() < (0.9 if tag == "p" else 0.25)]
    chance.shuffle(tags)
    blank = chance.choice(["", " "])
    return chance.choice(["v=DMARC1", "v=DMARC1", "v=DMARC1", "v=DMARC1", "V = DMARC1", "v=dmarc1"]) + "".join(
        f";{blank}{tag}" for tag in tags
    )


def case(chance: random.Random) -> dict[str, Any]:
    author = name(chance)
    above = [author.split(".", at)[at] for at in range(author.count("."))]  # "example" itself: see below
    zone: dict[str, Any] = {}
    for domain in {*above, name(chance)}:
        if chance.random() < 0.5:
            texts = [record(chance) for _ in range(chance.choice([1, 1, 1, 1, 1, 2]))]
            zone[f"_dmarc.{domain}"] = "down" if chance.random() < 0.05 else texts
    if chance.random() < 0.5:
        zone[author] = ["hello"]
    if chance.random() < 0.2:
        # A top-level domain that does not say psd= is another organization for us only: we know the suffixes.
        zone["_dmarc.example"] = [f"v=DMARC1; p=reject; psd={chance.choice('yn')}"]
    proved = [*above, name(chance), f"{chance.choice('abc')}.{chance.choice(above)}"]
    return {
        "zone": zone,
        "author": author,
        "spf": chance.sample(proved, chance.choice([0, 0, 1])),
        "dkim": chance.sample(proved, chance.choice([0, 0, 1, 2])),
    }


def ours(given: dict[str, Any]) -> dict[str, Any]:
    zone = {
        domain: None if texts == "down" else {"TXT": [text.encode() for text in texts]}
        for domain, texts in given["zone"].items()
    }
    found = asyncio.run(
        evaluate(
            ZoneResolver(zone),
            [given["author"]],
            [spfs.Result("pass", "mailfrom", domain) for domain in given["spf"]],
            [dkims.Result("pass", "", domain, "s") for domain in given["dkim"]],
            dice=0.0,
        )
    )
    # Theirs has no permerror, and its policy is already the milder one while a domain tests.
    word = "none" if found.word == "permerror" else found.word
    policy: str = found.disposition if word == "fail" else found.policy
    if word == "pass" and found.published is not None and found.published.t == "y":
        policy = {"reject": "quarantine", "quarantine": "none", "none": "none"}[policy]
    return {
        "word": word,
        "policy": "" if word in ("none", "temperror") else policy,
        "where": "" if word in ("none", "temperror") else found.policy_domain,
        "aligned": [found.aligned_spf, found.aligned_dkim],
    }


def test_mailauth_says_the_same(tmp_path: Path) -> None:
    node, npm = client("node"), client("npm")
    done = subprocess.run(
        [npm, "install", "--silent", "--no-audit", "--no-fund", f"mailauth@{VERSION}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    if done.returncode:
        missing(f"mailauth cannot be installed: {done.stderr.strip()[-300:] or 'no package registry'}")
    (tmp_path / "judge.js").write_text(JUDGE)
    chance = random.Random(9989)
    cases = [case(chance) for _ in range(ROUNDS)]
    judged = subprocess.run(
        [node, "judge.js"],
        cwd=tmp_path,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert judged.returncode == 0, judged.stderr
    words: dict[str, int] = {}
    for given, theirs in zip(cases, json.loads((tmp_path / "said.json").read_text()), strict=True):
        own = ours(given)
        if theirs["word"] in ("none", "temperror"):
            theirs["where"] = ""
        registered = given["author"].split(".", given["author"].count(".") - 1)[-1]
        if theirs["word"] == "temperror" and not any(one.endswith(registered) for one in given["spf"] + given["dkim"]):
            # By the public suffix list we know that what is not known could not have counted.
            assert own["word"] in ("temperror", "fail"), given
            continue
        assert own == theirs, given
        words[own["word"]] = words.get(own["word"], 0) + 1
    # The cases are worth something: every result comes often.
    assert all(words.get(word, 0) > 50 for word in ("pass", "fail", "none", "temperror")), words
