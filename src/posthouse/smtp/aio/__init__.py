"""SMTP for programs: a server in ten lines, and a client (asyncio over the engines of `posthouse.smtp`).

    from posthouse.smtp.aio import Message, serve

    async def on_message(message: Message) -> None:
        print(message.sender, message.recipients, len(message.content))

    asyncio.run(serve(on_message, port=8025))

`Server` is the same with a beginning and an end, for tests; `Client` and `send` are the other side. Nothing here needs
a configuration, a database or the rest of Posthouse. `collecting` is a server that keeps what it takes in a list;
`client_context` makes a TLS context that trusts a CA of yours. What the client side cannot do raises `SendError`. A
handler that raises is answered 451 and logged with its traceback as `posthouse.smtp` by the standard `logging` (on
standard error, if that is not set up), or given to `on_error`.
"""

from posthouse.smtp.aio.client import Client, SendError, client_context, send
from posthouse.smtp.aio.server import Message, Refused, Server, collecting, serve

__all__ = ["Client", "Message", "Refused", "SendError", "Server", "client_context", "collecting", "send", "serve"]
