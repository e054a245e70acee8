"""What it costs to find out who sent a message, in CPU-ms a 4 KiB message: SPF, one DKIM signature (RSA-2048), DMARC.

python -m bench.authentication

The DNS is asked before, so its answers are in the cache of the resolver, as they are for mail of a domain that sends
more than one. "All that is done" is everything that a message costs more than one that is not looked at: forged fields
taken out, SPF of sender and greeting, DKIM, ARC, the name of the client, DMARC, the indicator of the domain, the fields
and the trace that are written. Each figure is the best of several runs, so other work on the machine disturbs little.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import uvloop
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.dkim import HEADER, message
from posthouse.base.clock import SystemClock
from posthouse.base.settings import Settings
from posthouse.net.dns import SystemResolver
from posthouse.senderauth import dkim, dmarc, policy, spf, verdict_fields, verdict_trace
from posthouse.senderauth.verify import Authenticator, Check, Client, Verdict
from posthouse.servers.smtp.authentication import Passage

KEY = rsa.generate_private_key(65537, 2048)
RECORDS = {
    ("example.org.", "TXT"): '"v=spf1 include:_spf.example.org mx -all"',
    ("_spf.example.org.", "TXT"): '"v=spf1 ip4:203.0.113.0/24 ip4:198.51.100.0/24 ip4:192.0.2.0/24 ?all"',
    ("mail.example.org.", "TXT"): '"v=spf1 a -all"',
    ("mail.example.org.", "A"): "192.0.2.1",
    ("_dmarc.example.org.", "TXT"): '"v=DMARC1; p=reject; rua=mailto:reports@example.org"',
    ("1.2.0.192.in-addr.arpa.", "PTR"): "mail.example.org.",
    ("key._domainkey.example.org.", "TXT"): " ".join(
        f'"{dkim.record_of(KEY)[at : at + 250]}"' for at in range(0, len(dkim.record_of(KEY)), 250)
    ),
}
CLIENT = Client("192.0.2.1", "mail.example.org", "anna@example.org")
TIMES, RUNS = 300, 7


class Server(asyncio.DatagramProtocol):
    """A name server that knows the table above."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        reply = dns.message.make_response(query, recursion_available=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        if text := RECORDS.get((question.name.to_text().lower(), kind)):
            reply.answer.append(dns.rrset.from_text(question.name, 3600, "IN", kind, text))
        else:
            soa = "ns.test. hostmaster.test. 1 3600 600 86400 3600"
            reply.authority.append(dns.rrset.from_text("org.", 3600, "IN", "SOA", soa))
        self.transport.sendto(reply.to_wire(), addr)


async def cost(work: Callable[[], Awaitable[object]]) -> float:
    """CPU-ms of one time."""
    best = 1e9
    for _ in range(RUNS):
        start = time.process_time()
        for _ in range(TIMES):
            await work()
        best = min(best, time.process_time() - start)
    return best / TIMES * 1000


async def main() -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Server, local_addr=("127.0.0.1", 0))
    clock = SystemClock()
    resolver = SystemResolver(clock, ["127.0.0.1"], port=transport.get_extra_info("sockname")[1])
    chosen = Settings.model_validate({"hostname": "mx.example.net"})
    authenticator = Authenticator(chosen, resolver, clock)
    now = clock.now() // 1_000_000
    signed = dkim.sign(message(4096), [dkim.Signer("example.org", "key", KEY)], now)
    header, body = dkim.split(signed)
    address = ip_address(CLIENT.ip)

    async def three() -> None:
        """SPF of the sender, DKIM, DMARC, one after the other."""
        said = await spf.check_mail_from(resolver, address, CLIENT.hello, CLIENT.sender)
        verifier = dkim.Verifier(header)
        verifier.feed(body)
        signatures = await verifier.finish(resolver.txt, now)
        judged = await dmarc.evaluate(resolver, dmarc.author_domains(header), [said], signatures, dice=0.5)
        assert judged.word == "pass"
        assert judged.aligned_spf
        assert judged.aligned_dkim

    async def verify() -> Verdict:
        check = Check()
        check.feed(signed)
        verdict = await authenticator.verify(check, CLIENT)
        assert verdict.dmarc_word == "pass"
        return verdict

    async def everything() -> None:
        passage = Passage("mx.example.net", "mx.example.net", verify=True)
        stored = passage.feed(signed) + passage.finish()
        assert stored == signed
        assert passage.check is not None
        verdict = await authenticator.verify(passage.check, CLIENT)
        decision = policy.decide(verdict, chosen.authentication)
        assert decision.disposition == "none"
        verdict_fields.fields(verdict, decision, "mx.example.net", "mx.example.net")
        verdict_trace.trace(verdict, decision)

    await everything()
    print(f"SPF, DKIM, DMARC:  {await cost(three):.3f} CPU-ms ({len(signed)} octets, header {len(HEADER)})")
    print(f"the whole verdict: {await cost(verify):.3f} CPU-ms")
    print(f"all that is done:  {await cost(everything):.3f} CPU-ms")
    transport.close()


if __name__ == "__main__":
    uvloop.run(main())
