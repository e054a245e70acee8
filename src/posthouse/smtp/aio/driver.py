"""The client engine over a stream: bytes to and fro until there is an event."""

import asyncio

from posthouse.base.errors import Temporary
from posthouse.net.stream import ConnectionLost, Stream
from posthouse.smtp import client as smtp
from posthouse.smtp.client import SmtpClient


async def next_event(client: SmtpClient, stream: Stream) -> smtp.Event:
    """The client engine's next event, moving bytes until there is one. Each reply has the engine's patience."""
    loop = asyncio.get_running_loop()
    replies, deadline = client.replies, loop.time() + client.patience
    while True:
        event = client.next_event()
        output = client.take_output()
        if output:
            stream.write(output)
        if event is not None:
            return event
        if client.closed:
            return smtp.Failed(smtp.LOST, "", False)
        if client.replies != replies or output:
            replies, deadline = client.replies, loop.time() + client.patience
        try:
            async with asyncio.timeout_at(deadline):
                try:
                    await stream.drain()
                except ConnectionLost:
                    pass  # what it said before it went is still to be read
                data = await stream.read()
        except TimeoutError:
            client.lost(f"The server did not answer for {client.patience:.0f} seconds")
        except Temporary as error:
            client.lost(f"The connection broke: {error}")
        else:
            if data:
                client.receive(data)
            else:
                client.lost("The server closed the connection")
