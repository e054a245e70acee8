"""One attempt: a message to some recipients over one route, host after host until one answers for them.

The client engine speaks, `net/dial.py` connects. Each recipient ends with a `Verdict`; what a server did not say
is ours and temporary. Never raises for what the network does.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from posthouse.base.errors import PosthouseError, Temporary
from posthouse.net.dial import ClientTls, Dial, DialFailed
from posthouse.net.dns import NoSuchDomain, Resolver
from posthouse.net.stream import Stream, TlsFailed
from posthouse.net.tls import client_context
from posthouse.queue import routes
from posthouse.queue.routes import Host
from posthouse.smtp import client as smtp
from posthouse.smtp.client import SmtpClient

CONNECT_PATIENCE = 30.0  # seconds for each address
ATTEMPT_LIMIT = 3000.0  # seconds for all of an attempt: below the lease of a claim


class Verdict(NamedTuple):
    """What became of one recipient: "delivered", "deferred" or "failed"."""

    state: str
    code: int
    status: str
    text: str
    host: str
    remote: bool  # the other server said it


class Report(NamedTuple):
    """What one attempt found out."""

    verdicts: dict[str, Verdict]
    transcript: list[str]
    tls: str


class Outgoing(NamedTuple):
    """What is to be sent. `pieces` reads it anew each time it is called."""

    sender: str
    recipients: tuple[str, ...]
    size: int
    eight_bit: bool
    pieces: Callable[[], AsyncIterator[bytes]]


class _NoAnswer(Exception):
    """A host gave no verdict on any recipient: try the next."""


async def attempt(
    hosts: Sequence[Host], outgoing: Outgoing, hostname: str, resolver: Resolver, dial: Dial, ca: Path | None = None
) -> Report:
    """Try the hosts in turn."""
    transcript: list[str] = []
    last = Verdict("deferred", 0, "4.4.1", "no server answered", "", False)
    gone = 0
    try:
        async with asyncio.timeout(ATTEMPT_LIMIT):
            for host in hosts:
                try:
                    found = await routes.addresses(host, resolver)
                except NoSuchDomain:
                    gone += 1
                    last = Verdict("deferred", 0, "4.4.4", f"the host {host.name} does not exist", host.name, False)
                    continue
                except PosthouseError as error:
                    last = Verdict("deferred", 0, "4.4.3", str(error), host.name, False)
                    continue
                if not found:
                    gone += 1
                    last = Verdict("deferred", 0, "4.4.4", f"the host {host.name} has no address", host.name, False)
                    continue
                try:
                    return await _host(host, found, outgoing, hostname, dial, transcript, ca)
                except DialFailed as error:
                    transcript.append(f"! {host.name}: {error}")
                    last = Verdict("deferred", 0, "4.4.1", f"no connection to {host.name}: {error}", host.name, False)
                except _NoAnswer as error:
                    last = Verdict("deferred", 0, "4.4.2", str(error), host.name, False)
    except TimeoutError:
        last = last._replace(text="the attempt took too long", status="4.4.7")
    if hosts and gone == len(hosts):
        # The DNS says for certain that no host is there (RFC 5321 section 5.1).
        last = last._replace(state="failed", status="5.4.4")
    return Report(dict.fromkeys(outgoing.recipients, last), transcript, "")


async def _host(
    host: Host,
    found: list[str],
    outgoing: Outgoing,
    hostname: str,
    dial: Dial,
    transcript: list[str],
    ca: Path | None,
) -> Report:
    """Try one host; once more without TLS if opportunistic TLS fails."""
    try:
        return await _conversation(host, found, outgoing, hostname, dial, transcript, ca)
    except TlsFailed as error:
        transcript.append(f"! TLS with {host.name} failed: {error}")
        if host.tls != "opportunistic":
            raise _NoAnswer(f"TLS with {host.name} failed: {error}") from error
    except Temporary as error:
        if isinstance(error, DialFailed):
            raise
        raise _NoAnswer(f"{host.name}: {error}") from error
    try:
        return await _conversation(host._replace(tls="none"), found, outgoing, hostname, dial, transcript, ca)
    except Temporary as error:
        raise _NoAnswer(f"{host.name}: {error}") from error


async def _conversation(
    host: Host,
    found: list[str],
    outgoing: Outgoing,
    hostname: str,
    dial: Dial,
    transcript: list[str],
    ca: Path | None,
) -> Report:
    context = client_context(verify=host.tls in ("starttls", "implicit"), ca=ca)
    tls = ClientTls(context, host.name)
    stream = await dial(found, host.port, patience=CONNECT_PATIENCE, tls=tls if host.tls == "implicit" else None)
    client = SmtpClient(hostname, secure=host.tls == "implicit")
    try:
        transcript.append(f"! connected to {host.name} [{stream.peer[0]}]:{stream.peer[1]}")
        event = await next_event(client, stream)
        if isinstance(event, smtp.Ready) and host.tls in ("opportunistic", "starttls"):
            event = await _start_tls(client, stream, tls, required=host.tls == "starttls", ready=event)
        if isinstance(event, smtp.Ready) and host.user:
            client.authenticate(host.user, host.password, plaintext=host.tls == "none")
            event = await next_event(client, stream)
            if isinstance(event, smtp.AuthRefused):
                raise _NoAnswer(f"{host.name} refused the login: {event.reply}")
        if isinstance(event, smtp.Failed):
            raise _NoAnswer(f"{host.name}: {event.reply}")
        client.send(outgoing.sender, outgoing.recipients, size=outgoing.size, eight_bit=outgoing.eight_bit)
        event = await next_event(client, stream)
        if isinstance(event, smtp.NeedContent):
            event = await _content(client, stream, outgoing)
        if not isinstance(event, smtp.Sent):
            raise _NoAnswer(f"{host.name}: the conversation broke off")
        if not any(result.remote for result in event.results) and client.closed:
            raise _NoAnswer(f"{host.name}: {event.results[0].reply.text}")
        verdicts = {result.recipient: _verdict(result, host.name) for result in event.results}
        if not client.closed:
            client.quit()
            stream.write(client.take_output())  # no need to wait for the reply to QUIT
        used = f"{stream.tls.version} {stream.tls.cipher}" if stream.tls else ""
        return Report(verdicts, transcript + client.take_transcript(), used)
    finally:
        transcript += client.take_transcript()
        await stream.close()


async def _start_tls(
    client: SmtpClient, stream: Stream, tls: ClientTls, *, required: bool, ready: smtp.Event
) -> smtp.Event:
    if not client.offers("STARTTLS") and not required:
        return ready
    client.start_tls()
    event = await next_event(client, stream)
    if isinstance(event, smtp.StartTls):
        await stream.start_tls(tls.context, tls.name)
        client.tls_started(stream.tls.version if stream.tls else "")
        return await next_event(client, stream)
    if isinstance(event, smtp.TlsRefused) and required:
        raise _NoAnswer(f"the server does not do TLS: {event.reply}")
    return ready if isinstance(event, smtp.TlsRefused) else event


async def _content(client: SmtpClient, stream: Stream, outgoing: Outgoing) -> smtp.Event:
    """Send the content; a server that refuses in the midst of it is heard at the end."""
    try:
        async for piece in outgoing.pieces():
            client.content(piece)
            stream.write(client.take_output())
            async with asyncio.timeout(client.patience):
                await stream.drain()
        client.end_content()
    except TimeoutError:
        client.lost("the server took nothing for too long")
    except Temporary as error:
        client.lost(str(error))
    except Exception as error:
        client.abort(f"the message could not be read: {error}")
    return await next_event(client, stream)


async def next_event(client: SmtpClient, stream: Stream) -> smtp.Event:
    """The client engine's next event, moving bytes until there is one."""
    while True:
        event = client.next_event()
        output = client.take_output()
        if output:
            stream.write(output)
        if event is not None:
            return event
        if client.closed:
            return smtp.Failed(smtp.LOST, "", False)
        try:
            async with asyncio.timeout(client.patience):
                await stream.drain()
                data = await stream.read()
        except TimeoutError:
            client.lost(f"the server was silent for {client.patience:.0f} seconds")
        except Temporary as error:
            client.lost(str(error))
        else:
            if data:
                client.receive(data)
            else:
                client.lost("the server closed the connection")


def _verdict(result: smtp.Result, host: str) -> Verdict:
    reply = result.reply
    if result.accepted:
        state = "delivered"
    elif reply.code >= 500:
        state = "failed"
    else:
        state = "deferred"
    return Verdict(state, reply.code, reply.status, reply.text, host, result.remote)
