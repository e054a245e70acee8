"""Test a program that sends mail: a real server on a free port, and the messages it took in a list.

It needs pytest (pip install pytest). Copy it beside your own tests: pytest test_with_a_server.py
In a clone of Posthouse, pytest wants what its own tests need: pip install --editable '.[dev]'
"""

import asyncio
import smtplib

from posthouse.smtp.aio import collecting


def program_under_test(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail("shop@example.org", ["you@example.org"], "Subject: Your order\n\nThank you!")


def test_the_customer_is_told() -> None:
    async def main() -> None:
        async with collecting() as (server, taken):
            await asyncio.to_thread(program_under_test, server.port)
        (message,) = taken
        assert message.recipients == ("you@example.org",)
        assert b"Subject: Your order" in message.content

    asyncio.run(main())
