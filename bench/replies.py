"""How long it takes to find out what a reply means: known ones, unknown ones, long and hostile ones."""

import time

from posthouse.queue.patterns import match

ROUNDS, REPEAT = 7, 2000
SHORT = "Go away, we do not want this today, see https://example.net/help for the reasons"
GMAIL = "gmail-smtp-in.l.google.com"
CASES: dict[str, tuple[str, int, str, str]] = {
    "known: full at Gmail": (GMAIL, 552, "5.2.2", "The recipient's inbox is out of storage space. - gsmtp"),
    "known: user unknown anywhere": ("mx.example.net", 550, "5.1.1", "User unknown in virtual mailbox table"),
    "unknown, 5yz, 80 characters": ("mx.example.net", 550, "5.7.0", SHORT),
    "unknown, 5yz, Gmail": (GMAIL, 550, "5.7.0", SHORT),
    "unknown, 4yz, 80 characters": ("mx.example.net", 451, "", SHORT),
    "unknown, 5yz, 1,000 characters or more": ("mx.example.net", 550, "5.7.0", "lorem ipsum dolor sit amet " * 1000),
    "hostile, for the one expression with a repeat": (
        "x.ess.barracudanetworks.com",
        550,
        "",
        "permanent failure for one or more recipients" + "recipients" * 1000,
    ),
}


def main() -> None:
    match("", 550, "", "the data is read")
    for name, case in CASES.items():
        best = 1e9
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for _ in range(REPEAT):
                match(*case)
            best = min(best, time.perf_counter() - began)
        print(f"{name}: {best / REPEAT * 1e6:.1f} µs")


if __name__ == "__main__":
    main()
