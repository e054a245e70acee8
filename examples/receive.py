"""A mail server in ten lines: it prints what it gets.

Run it, then: swaks --to you@example.org --server 127.0.0.1:8025
"""

import asyncio
import sys

from posthouse.smtp.aio import Message, serve


async def on_message(message: Message) -> None:
    print(f"{message.sender or '<>'} -> {', '.join(message.recipients)}: {len(message.content)} octets", flush=True)


if __name__ == "__main__":
    asyncio.run(serve(on_message, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8025))
