"""A name server on loopback for the tests of the resolver: answers from a table, by UDP and TCP.

The table maps (name, type) to a list of record texts, or to a word: "NXDOMAIN", "SERVFAIL",
"SILENCE" (never answers), "TRUNCATE" + records (by UDP only the flag that sends one to TCP),
"LOOP" (the name is an alias of itself by way of another). The names in `no_soa` are answered negatively without an SOA.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Table = dict[tuple[str, str], list[str] | str]
SOA = "ns.test. hostmaster.test. 1 3600 600 86400 60"


class NameServer(asyncio.DatagramProtocol):
    def __init__(self, table: Table, ttl: int = 300) -> None:
        self.table = table
        self.ttl = ttl
        self.no_soa: set[str] = set()
        self.questions: list[tuple[str, str, str]] = []  # (transport, name, type)
        self.asked_ad: list[bool] = []  # whether the question asks for the AD bit (RFC 6840 section 5.7)

    async def start(self) -> int:
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._stream, "127.0.0.1", 0)
        port: int = self._tcp.sockets[0].getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", port))
        return port

    async def stop(self) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        reply = self._reply(data, "udp")
        if reply is not None:
            self._transport.sendto(reply, addr)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        reply = self._reply(data, "tcp")
        if reply is not None:
            writer.write(len(reply).to_bytes(2, "big") + reply)
            await writer.drain()
        writer.close()

    def _reply(self, data: bytes, transport: str) -> bytes | None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        name, kind = question.name.to_text().lower(), dns.rdatatype.to_text(question.rdtype)
        self.questions.append((transport, name, kind))
        self.asked_ad.append(bool(query.flags & dns.flags.AD))
        entry = self.table.get((name, kind), [])
        reply = dns.message.make_response(query, recursion_available=True)
        if entry == "SILENCE":
            return None
        if entry == "SERVFAIL":
            reply.set_rcode(dns.rcode.SERVFAIL)
            return reply.to_wire()
        if entry == "NXDOMAIN" or entry == []:
            if entry:
                reply.set_rcode(dns.rcode.NXDOMAIN)
            if name not in self.no_soa:
                # Of the root, so that it is above every name.
                reply.authority.append(dns.rrset.from_text(".", 60, "IN", "SOA", SOA))
            return reply.to_wire()
        if entry == "LOOP":
            other = f"loop.{name}"
            for alias, target in ((name, other), (other, name)):
                reply.answer.append(dns.rrset.from_text(alias, self.ttl, "IN", "CNAME", target))
            return reply.to_wire()
        records = list(entry)
        if records[0] == "TRUNCATE":
            records = records[1:]
            if transport == "udp":
                reply.flags |= dns.flags.TC
                return reply.to_wire()
        if records[0] == "SECURE":
            records = records[1:]
            reply.flags |= dns.flags.AD
        owner = question.name
        if records[0].startswith("CNAME "):
            target = records.pop(0).removeprefix("CNAME ")
            reply.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", "CNAME", target))
            owner = dns.name.from_text(target)
        if records:
            reply.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", kind, *records))
        return reply.to_wire(max_size=65_535 if transport == "tcp" else 0)


@contextmanager
def in_thread(table: Table) -> Iterator[int]:
    """The port of a name server that runs beside a test without a loop, or whose program has one of its own."""
    loop = asyncio.new_event_loop()
    server = NameServer(table)
    port = loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def strings(text: str) -> str:
    """A long text as the strings of one TXT record."""
    return " ".join(f'"{text[at : at + 200]}"' for at in range(0, len(text), 200))
