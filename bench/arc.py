"""What verifying and sealing a chain cost, in CPU-ms a message; keys come from a table, without a question to the DNS.

python -m bench.arc

Each figure is the best of several runs, so that other work on the machine disturbs little.
"""

import asyncio

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from bench.dkim import NOW, cost, message
from posthouse.senderauth import arc, dkim
from posthouse.senderauth.arc import Sealer
from posthouse.senderauth.dkim import PrivateKey

SEEN = ["mx.example.org", "dmarc=pass header.from=example.org", "spf=pass smtp.mailfrom=a@example.org", "dkim=pass"]
SETS = 3


def main() -> None:
    loop = asyncio.new_event_loop()
    keys: dict[str, PrivateKey] = {
        "RSA-2048": rsa.generate_private_key(65537, 2048),
        "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    }
    for size, times in ((4096, 300), (10 << 20, 1)):
        for name, key in keys.items():
            record = dkim.record_of(key).encode()

            async def txt(_: str, record: bytes = record) -> list[bytes]:
                return [record]

            def seal(raw: bytes, number: int, key: PrivateKey = key) -> bytes:
                header, content = dkim.split(raw)
                sealer = Sealer(f"relay{number}.example.org", "key", key)
                body = sealer.body()
                body.feed(content)
                return sealer.fields(header, body, "pass" if number else "none", SEEN, NOW)

            raw = message(size)
            for number in range(SETS):
                raw = seal(raw, number) + raw

            def verify(raw: bytes = raw, txt: dkim.Lookup = txt) -> None:
                chain = loop.run_until_complete(arc.verify(raw, txt, NOW))
                assert (chain.word, chain.oldest_pass, len(chain.sets)) == ("pass", 0, SETS)

            def one_more(raw: bytes = raw) -> bytes:
                return seal(raw, SETS)

            def none(raw: bytes = message(size), txt: dkim.Lookup = txt) -> None:
                assert loop.run_until_complete(arc.verify(raw, txt, NOW)).word == "none"

            print(
                f"{size:>9} octets, {name}: verify {SETS} sets {cost(verify, times):.3f}, "
                f"seal {cost(one_more, times):.3f}, no chain {cost(none, times):.4f} CPU-ms"
            )
    loop.close()


if __name__ == "__main__":
    main()
