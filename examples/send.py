"""Send a message, and see what became of each recipient: send.py HOST PORT USER PASSWORD CA FROM TO..."""

import asyncio
import sys
from email.message import EmailMessage
from pathlib import Path

from posthouse.smtp.aio import Client, SendError, client_context


async def main(host: str, port: str, user: str, password: str, ca: str, sender: str, *recipients: str) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, ", ".join(recipients), "Hello"
    message.set_content("Sent by a program.")
    context = client_context(ca=Path(ca))
    async with await Client.connect(host, int(port), tls="starttls", context=context) as client:
        await client.login(user, password)
        for result in await client.send(sender, recipients, message.as_bytes()):
            print(f"{result.recipient}: {result.reply}")


if __name__ == "__main__":
    if len(sys.argv) < 8:
        sys.exit(__doc__)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except SendError as error:  # no connection, no TLS, no login: nobody was asked yet
        sys.exit(f"not sent: {error}")
