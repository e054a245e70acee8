"""SMTP for programs: a server in ten lines, and a client (asyncio over the engines of `posthouse.smtp`).

    from posthouse.smtp.aio import Message, serve

    async def on_message(message: Message) -> None:
        print(message.sender, message.recipients, len(message.content))

    asyncio.run(serve(on_message, port=8025))

`Server` is the same with a beginning and an end, for tests; `Client` and `send` are the other side. Nothing here needs
a configuration, a database or the rest of Posthouse.
"""

from posthouse.smtp.aio.client import Client, SendError, send
from posthouse.smtp.aio.server import Message, Refused, Server, serve

__all__ = ["Client", "Message", "Refused", "SendError", "Server", "send", "serve"]
