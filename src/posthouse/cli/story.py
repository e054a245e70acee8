"""The story of a message in lines for people, from the connection to what waits now. Pure: a `Case` of
`store/traces.py` and the time in, lines for `timeline.py` out.

Each kind of event has a function in `_KINDS`; a kind that is not known is told with its fields. Events of every age are
understood: what an older one does not say is not told. Long lists are cut (the JSON of the command has all).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from posthouse.base import ids
from posthouse.cli import outcome
from posthouse.cli.outcome import STYLES, said
from posthouse.cli.story_authentication import authentication
from posthouse.cli.timeline import Line, Part, clock, lasted
from posthouse.queue.patterns import Meaning, match
from posthouse.reports.dsn import explain
from posthouse.store.events import Event
from posthouse.store.traces import BEGINNINGS, Case, Link

MOST = 20  # of a list
MOST_TRANSCRIPT = 40  # lines of a transcript that is shown without being asked for
ALIKE = 3  # attempts in a row with one outcome: of more than that the middle is told in one line
_CAME_FROM = {
    "bounce_of": "This is a report about",
    "double_bounce_of": "This is a report to the postmaster about",
    "forwarded_from": "This is what was forwarded of",
    "released": "This was held until now as",
    "receipt_of": "This is a receipt for",
}
_LED_TO = {
    "failed": "Bounce",
    "delayed": "Warning of delay",
    "delivered": "Report of delivery",
    "relayed": "Report that it was passed on",
    "double bounce": "Report to the postmaster",
    "forwarded": "Forwarded as",
    "released": "Delivered as",
    "receipt": "Receipt",
}
_SERVICES = {
    "smtp": "smtp (the port for other servers)",
    "submission": "submission (the port for our own people)",
    "submissions": "submissions (the port for our own people, TLS from the start)",
    "lmtp": "lmtp",
}


class Story(NamedTuple):
    """What is told: a headline, the timeline, how things stand."""

    head: list[Line]
    lines: list[Line]
    now: list[Line]


class _Telling(NamedTuple):
    """What the attempts of one story share."""

    shown: int  # the attempt whose dialogue is shown
    transcripts: bool  # those of all are
    explained: set[Meaning]  # what was explained in full


def tell(case: Case, now: int, *, transcripts: bool = False) -> Story:
    """The story of a message. `transcripts`: with the SMTP dialogue of every attempt, not only of the last that
    failed, and no attempt left out."""
    lines: list[Line] = []
    telling = _Telling(_last_failed(case.events), transcripts, set())
    # Attempts are counted for each destination, as the queue does; of whom those were that are left out nobody knows.
    destinations = {event.data.get("destination") for event in case.events if event.kind == "attempt"}
    counts = Counter(dict.fromkeys(destinations, case.left_out))
    known = not case.left_out or len(destinations) == 1
    run: list[tuple[int, Event]] = []
    for event in case.events:
        if event.kind == "attempt":
            counts[event.data.get("destination")] += 1
            if run and _sign(run[-1][1]) != _sign(event):
                lines += _attempts(case, run, telling)
                run = []
            run.append((counts[event.data.get("destination")] if known else 0, event))
            continue
        lines += _attempts(case, run, telling)
        run = []
        lines += _KINDS.get(event.kind, _other)(case, event)
        if event.kind in BEGINNINGS and case.left_out:
            lines.append(_line(0, (f"{case.left_out} events after the first are left out here", "dim")))
    lines += _attempts(case, run, telling)
    return Story(_head(case), lines, _now(case, now))


def _line(at: int, *parts: Part | str, depth: int = 0) -> Line:
    return Line(at, tuple((part, "") if isinstance(part, str) else part for part in parts), depth)


def _more(count: int, depth: int = 1) -> list[Line]:
    return [_line(0, (f"and {count} more", "dim"), depth=depth)] if count > 0 else []


def _path(address: str) -> str:
    return f"<{address}>"


def _head(case: Case) -> list[Line]:
    short = outcome.summary(case)
    style = STYLES.get(short.state, "wait" if "," in short.state else "")
    to = ", ".join(short.recipients[:MOST]) or "nobody"
    if len(short.recipients) > MOST:
        to += f" and {len(short.recipients) - MOST} more"
    return [
        _line(0, ("Message ", "head"), (ids.to_text(case.trace), "head"), "  ", (short.state, style)),
        _line(0, f"from {short.sender or '<>'}", depth=1),
        _line(0, f"to {to}", depth=1),
    ]


# How it came


def _accepted(case: Case, event: Event) -> list[Line]:
    data, at = event.data, outcome.time_of(event.seq)
    lines = _came(data, at)
    for link in case.links:
        if link.came_from:
            lines.append(_line(at if not lines else 0, *_linked(link)))
    began = _began(data, at)
    if "session" in data:
        lines.append(_line(began, _mail(data)))
    lines += _recipients(case, data)
    lines += authentication(data.get("authentication", {}))
    lines += _forged(data)
    lines += _filters(data)
    took = []
    if "ms" in data:
        took.append(f"{lasted(data['ms'] * 1000)} after MAIL")
    if begun := _connected(data):
        took.append(f"{lasted(max(0, at - begun))} after the connection")
    lines.append(_line(at, ("Accepted", "good"), f": {', '.join(took)}" if took else ""))
    lines += _content(data)
    lines += _signed(data)
    if data.get("tags"):
        lines.append(_line(0, f"Tags: {' '.join(data['tags'])}", depth=1))
    if data.get("rewritten"):
        lines.append(_line(0, f"Goes on with the sender {_path(data['rewritten'])} (SRS)", depth=1))
    if data.get("original_sender"):
        lines.append(_line(0, f"The sender was {_path(data['original_sender'])} (SRS)", depth=1))
    lines += _led_to(case, data)
    return lines


def _refused(case: Case, event: Event) -> list[Line]:
    data, at = event.data, outcome.time_of(event.seq)
    lines = _came(data, at)
    lines.append(_line(_began(data, at), _mail(data)))
    accepted = data.get("recipients", ())
    lines += [_line(0, _rcpt(data, who), ": ", ("taken", "good"), depth=1) for who in accepted[:MOST]]
    lines += _more(len(accepted) - MOST + data.get("recipients_more", 0))
    lines += _refusals(data)
    lines += authentication(data.get("authentication", {}))
    lines += _forged(data)
    lines += _filters(data)
    final = outcome.summary(case).state
    word = "Put off: it may be tried again" if final == outcome.PUT_OFF else "Refused"
    lines.append(_line(at, (word, STYLES.get(final, "bad"))))
    lines += _content(data)
    if missed := data.get("not_kept"):
        text = f"Not kept before this one, as there were too many: {missed.get('client', 0)} refusals of this client"
        lines.append(_line(0, (f"{text}, {missed.get('all', 0)} in all", "dim"), depth=1))
    return lines


def _connected(data: Mapping[str, Any]) -> int:
    """When the connection was made: the id of the session says it. 0: not known."""
    session = ids.from_text(str(data.get("session", "")))
    return outcome.time_of(session) if session is not None else 0


def _began(data: Mapping[str, Any], at: int) -> int:
    return at - data["ms"] * 1000 if "ms" in data else 0


def _came(data: Mapping[str, Any], at: int) -> list[Line]:
    """From where: the connection, and who was there."""
    if "session" not in data:
        notice = f": {data['notice']}" if data.get("notice") else ""
        return [_line(at, f"Written by this server{notice}")]
    name = data.get("name")
    host = f" ({name})" if name else " (without a name in the DNS)" if name == "" else ""
    lines = [_line(_connected(data) or at, f"Connection from {data.get('ip', '?')}{host}")]
    service = data.get("service", "")
    lines.append(_line(0, f"to {_SERVICES.get(service, service)}, session {data['session']}", depth=1))
    lines.append(_line(0, f"{data.get('verb', 'EHLO')} {data.get('hello', '')}", depth=1))
    peer = f", {data['peer']}" if data.get("peer") else ""
    lines.append(_line(0, (f"{data['tls']}{peer}", "") if data.get("tls") else ("without TLS", "wait"), depth=1))
    if data.get("login"):
        how = f" ({data['mechanism']})" if data.get("mechanism") else ""
        lines.append(_line(0, f"logged in as {data['login']}{how}", depth=1))
    return lines


def _mail(data: Mapping[str, Any]) -> str:
    words = [f"MAIL FROM:{_path(data.get('sender', ''))}"]
    for name, value in data.get("mail", {}).items():
        match name:
            case "by":
                words.append(f"BY={value.get('seconds')};{value.get('mode')}{'T' * bool(value.get('trace'))}")
            case "hold":
                seconds, until = value.get("seconds"), value.get("until")
                words.append(f"HOLDFOR={seconds}" if until is None else f"HOLDUNTIL={clock(until * 1_000_000)[:19]}")
            case "auth":
                words.append(f"AUTH={_path(value)}")
            case "priority":
                words.append(f"MT-PRIORITY={value}")
            case _:
                words.append(name.upper() if value is True else f"{name.upper()}={value}")
    return " ".join(words)


def _rcpt(data: Mapping[str, Any], recipient: str) -> str:
    asked = data.get("rcpt", {}).get(recipient, {})
    words = [f"RCPT TO:{_path(recipient)}"]
    if asked.get("notify"):
        words.append(f"NOTIFY={','.join(asked['notify'])}")
    if asked.get("orcpt"):
        words.append(f"ORCPT={asked['orcpt']}")
    return " ".join(words)


def _recipients(case: Case, data: Mapping[str, Any]) -> list[Line]:
    """Recipients and what each became."""
    recipients, became = data.get("recipients", ()), data.get("became")
    lines: list[Line] = []
    for number, recipient in enumerate(recipients[:MOST]):
        lines.append(_line(0, _rcpt(data, recipient), depth=1))
        if became is not None and number < len(became):
            lines += _leads(case, data, recipient, became[number])
    lines += _more(len(recipients) - MOST)
    if became is None:
        counts = f"{data.get('local', 0)} mailboxes here, {data.get('remote', 0)} recipients elsewhere"
        lines.append(_line(0, counts, depth=2))
        lines += [_line(0, (f"no copy for {who}, by a hook", "wait"), depth=2) for who in data.get("discarded", ())]
    return lines + _refusals(data)


def _leads(case: Case, data: Mapping[str, Any], recipient: str, leads: Mapping[str, Any]) -> list[Line]:
    lines = []
    for account, (text, state) in zip(leads.get("accounts", ()), outcome.mailboxes(case, data, leads), strict=False):
        alias = case.accounts.get(account, recipient).lower() != recipient.lower()
        lines.append(_line(0, "→ ", (text, STYLES[state]), " (by an alias)" if alias else "", depth=2))
    lines += [_line(0, f"→ {address}, by an alias", depth=2) for address in leads.get("elsewhere", ())]
    if "queued" in leads:
        lines.append(_line(0, f"→ queued for {leads['queued']}", depth=2))
    if "held" in leads:
        lines.append(_line(0, f"→ held until {clock(leads['held'])[:19]}", depth=2))
    if not lines:
        lines.append(_line(0, ("→ nobody", "bad"), depth=2))
    return lines + _more(leads.get("more", 0), depth=2)


def _refusals(data: Mapping[str, Any]) -> list[Line]:
    lines = []
    for one in data.get("refused", ()):
        who, reply = one.get("recipient", ""), str(one.get("reply", ""))
        style = "wait" if reply.startswith("4") else "bad"
        lines.append(_line(0, _rcpt(data, who) if who else "The message", ": ", (reply, style), depth=1))
    return lines + _more(data.get("refused_more", 0))


def _filters(data: Mapping[str, Any]) -> list[Line]:
    notes = data.get("filter", ())
    if not notes:
        return []
    lines = [_line(0, "Filters", depth=1)]
    for note in notes[:MOST]:
        about = f" ({note['for']})" if note.get("for") else ""
        lines.append(_line(0, f"{note.get('at', '')}: {note.get('by', '')}: {note.get('did', '')}{about}", depth=2))
    return lines + _more(len(notes) - MOST, depth=2)


def _content(data: Mapping[str, Any]) -> list[Line]:
    lines = []
    if "size" in data:
        lines.append(_line(0, f"{data['size']} octets", depth=1))
    if data.get("hash"):
        lines.append(_line(0, f"SHA-256 {data['hash']}…", depth=1))
    if data.get("message_id"):
        lines.append(_line(0, f"Message-ID: {_path(data['message_id'])}", depth=1))
    if data.get("from"):
        lines.append(_line(0, f"From: {data['from']}", depth=1))
    return lines


def _forged(data: Mapping[str, Any]) -> list[Line]:
    """What came in our name and was taken out."""
    found = data.get("forged", {})
    if not found:
        return []
    names = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in found.items())
    return [_line(0, ("Taken out", "wait"), f", as it claimed to be ours: {names}", depth=1)]


def _signed(data: Mapping[str, Any]) -> list[Line]:
    """What was put right, and who signed."""
    lines = []
    put_right = [f"{name.title()} was added".replace("-Id", "-ID") for name in data.get("added", ())]
    if data.get("removed"):
        put_right.append("Bcc was removed")
    if put_right:
        lines.append(_line(0, ", ".join(put_right), depth=1))
    if data.get("signed"):
        who = ", ".join(f"{one.get('s')} ({one.get('a')})" for one in data["signed"][:MOST])
        lines.append(_line(0, ("Signed", "good"), f" for {data['signed'][0].get('d')} with {who}", depth=1))
    if data.get("sealed"):
        one = data["sealed"]
        lines.append(_line(0, f"Sealed (ARC) for {one.get('d')} with {one.get('s')}, cv={one.get('cv')}", depth=1))
    if data.get("unsealed"):
        lines.append(_line(0, ("Not sealed", "wait"), f": {data['unsealed']}", depth=1))
    if data.get("unsigned"):
        lines.append(_line(0, ("Not signed", "wait"), f": {data['unsigned']}", depth=1))
    return lines


# Attempts


def _last_failed(events: Iterable[Event]) -> int:
    """The last attempt that did not reach everybody; 0 if there is none."""
    return max((event.seq for event in events if event.kind == "attempt" and not _went_well(event)), default=0)


def _went_well(event: Event) -> bool:
    return all(one.get("state") == "delivered" for one in event.data.get("results", {}).values())


def _sign(event: Event) -> tuple[Any, ...]:
    """What attempts have in common that are told together."""
    data = event.data
    results = tuple((who, one.get("state"), said(one)) for who, one in data.get("results", {}).items())
    return data.get("destination"), data.get("host"), results, bool(data.get("ended")), bool(data.get("led_to"))


def _attempts(case: Case, run: Sequence[tuple[int, Event]], telling: _Telling) -> list[Line]:
    """Attempts one after the other with one outcome."""
    lines: list[Line] = []
    if len(run) > ALIKE and not telling.transcripts:
        (first, event), *middle, last = run
        lines += _attempt(case, first, event, telling)
        text = (
            f"{len(middle)} more attempts, up to {clock(outcome.time_of(middle[-1][1].seq))[:19]}, ended the same way"
        )
        lines.append(_line(outcome.time_of(middle[0][1].seq), (text, "dim")))
        run = [last]
    for number, event in run:
        lines += _attempt(case, number, event, telling)
    return lines


def _attempt(case: Case, number: int, event: Event, telling: _Telling) -> list[Line]:
    data, at = event.data, outcome.time_of(event.seq)
    destination = data.get("destination") or "people of ours, as its time has come"
    by = f" by route {data['route']}" if data.get("route") else ""
    lines = [_line(at, (f"Attempt {number}" if number else "An attempt", "head"), f" for {destination}{by}")]
    hosts = data.get("hosts", ())
    for host in hosts[:MOST]:
        lines += _host(host)
    lines += _more(len(hosts) - MOST)
    if not hosts and data.get("host"):
        lines.append(_line(0, f"{data['host']} {data.get('address', '')}".rstrip(), depth=1))
        if data.get("address"):
            lines.append(_line(0, *_tls(data.get("tls") or {}), depth=2))
        if data.get("security"):
            lines.append(_line(0, str(data["security"]), depth=2))
    transcript = data.get("transcript", ())
    if not hosts:
        # Before hosts were written down one by one, what we thought of them stood in the transcript alone.
        ours = [line[2:] for line in transcript if line.startswith("! ") and not line.startswith("! connected to")]
        lines += [_line(0, (text, "dim"), depth=2) for text in ours[:MOST]]
    lines += _results(data, at, telling.explained)
    lines += _led_to(case, data)
    if not telling.transcripts and all(line.startswith("! ") for line in transcript):
        pass  # nobody was spoken to, and what we thought is told above
    elif telling.transcripts or event.seq == telling.shown:
        most = len(transcript) if telling.transcripts else MOST_TRANSCRIPT
        lines += [_line(0, (line, "dim"), depth=2) for line in transcript[:most]]
        if len(transcript) > most:
            lines.append(_line(0, (f"{len(transcript) - most} more lines: --transcript", "dim"), depth=2))
    else:
        count = f"{len(transcript)} line{'s' * (len(transcript) > 1)}"
        lines.append(_line(0, (f"dialogue of {count}: --transcript", "dim"), depth=1))
    return lines


def _host(host: Mapping[str, Any]) -> list[Line]:
    """A host that was tried."""
    name, address = host.get("host") or host.get("name") or "?", host.get("address", "")
    took = f", {lasted(host['ms'] * 1000)}" if isinstance(host.get("ms"), int) else ""
    again = f", message {host['message']} by this connection" if (host.get("message") or 1) > 1 else ""
    lines = [_line(0, f"{name} {address}".rstrip() + took + again, depth=1)]
    if address:
        lines.append(_line(0, *_tls(host.get("tls") or {}), depth=2))
    policy = ": ".join(str(host[key]) for key in ("policy", "security", "reason") if host.get(key))
    if policy:
        lines.append(_line(0, f"asked of it: {policy}", depth=2))
    if host.get("finding"):
        lines.append(_line(0, (f"found: {host['finding']}", "bad" if host.get("result") else ""), depth=2))
    if host.get("outcome") and host["outcome"] != "answered":
        lines.append(_line(0, (str(host["outcome"]), "wait"), depth=2))
    return lines


def _tls(tls: Mapping[str, Any]) -> tuple[Part, ...]:
    if not tls.get("version"):
        return (("without TLS", "wait"),)
    verified = tls.get("verified")
    how = f" ({verified})" if isinstance(verified, str) and verified else ""
    trust = (f"certificate verified{how}", "good") if verified else ("certificate not verified", "wait")
    resumed = ", a resumed session" if tls.get("resumed") else ""
    return ((f"{tls['version']} {tls.get('cipher', '')}, ", ""), trust, (resumed, ""))


def _results(data: Mapping[str, Any], at: int, explained: set[Meaning]) -> list[Line]:
    """What became of each recipient; those first for whom something remains to be told."""
    results: Mapping[str, Mapping[str, Any]] = data.get("results", {})
    ended, later = data.get("ended", {}), data.get("next", {})
    order = sorted(results.items(), key=lambda item: item[1].get("state") == "delivered")
    lines: list[Line] = []
    told: set[Meaning] = set()  # here
    for who, verdict in order[:MOST]:
        state = ended.get(who) or verdict.get("state", "")
        word = {"deferred": "put off"}.get(state, state)
        style = {"delivered": "good", "deferred": "wait", "failed": "bad"}.get(state, "")
        first, *others = said(verdict).split("\n")
        lines.append(_line(0, f"{who}: ", (word, style), f": {first}" if first else "", depth=1))
        lines += [_line(0, text, depth=2) for text in others]
        if verdict.get("host") and verdict.get("remote") and verdict["host"] != data.get("host"):
            lines.append(_line(0, f"said by {verdict['host']}", depth=2))
        meaning = meaning_of(verdict)
        if meaning is not None and meaning not in told:
            told.add(meaning)
            lines += _meant(meaning, whole=meaning not in explained)
            explained.add(meaning)
        elif verdict.get("rule"):
            lines.append(_line(0, "This server is set up so: no other one was asked.", depth=2))
        elif meaning is None and state == "failed":
            lines.append(_line(0, explain(str(verdict.get("status", "")))[0], depth=2))
        if state == "failed" and verdict.get("state") == "deferred":
            lines.append(_line(0, ("given up: it was tried for as long as the settings say", "bad"), depth=2))
        if who in later:
            lines.append(_line(0, f"next attempt {clock(later[who])[:19]}, {lasted(later[who] - at)} later", depth=2))
    return lines + _more(len(order) - MOST)


def meaning_of(verdict: Mapping[str, Any]) -> Meaning | None:
    """What the refusal of another server is known to mean."""
    if not verdict.get("remote") or verdict.get("state") == "delivered":
        return None
    host, status, text = (str(verdict.get(key) or "") for key in ("host", "status", "text"))
    return match(host, verdict.get("code") or 0, status, text)


def _meant(meaning: Meaning, *, whole: bool) -> list[Line]:
    """What a reply means; what to do about it is said once in a story."""
    by = f" ({meaning.provider})" if meaning.provider else ""
    lines = [_line(0, f"{meaning.what}{by}", depth=2)]
    if whole:
        lines += [_line(0, f"Sender: {meaning.sender}", depth=2), _line(0, f"Operator: {meaning.operator}", depth=2)]
    return lines


# Others


def _operator(_case: Case, event: Event) -> list[Line]:
    data = event.data
    rest = {key: value for key, value in data.items() if key not in ("action", "recipients", "count", "route")}
    way = f", by {str(data['route']).replace(':', ' ', 1)}" if data.get("route") else ""
    text = f": {data.get('action', 'did something')}{way}{_fields(rest)}"
    who = [str(one) for one in data.get("recipients", ())]
    lines = [_line(outcome.time_of(event.seq), ("An operator", "head"), text)]
    lines += [_line(0, one, depth=1) for one in who[:MOST]]
    return lines + _more(max(len(who), data.get("count", 0)) - min(len(who), MOST))


def _report(_case: Case, event: Event) -> list[Line]:
    """What was made of a message at an address for reports."""
    data = event.data
    text = f"{data.get('kind', '')} report of {data.get('organization', '')} about {data.get('about', '')}"
    text += ", unverified" if data.get("unverified") else ""
    if data.get("ignored"):
        what = f"no report that counts: {data['ignored']}"
        return [_line(outcome.time_of(event.seq), ("Looked at for reports: ", "head"), what)]
    counted = f": {data.get('counted', 0)} counted, {data.get('failed', 0)} of them failed"
    return [_line(outcome.time_of(event.seq), ("Taken in: ", "head"), text + counted)]


def _other(_case: Case, event: Event) -> list[Line]:
    return [_line(outcome.time_of(event.seq), (event.kind, "head"), _fields(event.data))]


def _fields(data: Mapping[str, Any]) -> str:
    return "".join(f", {key} {value}" for key, value in data.items() if value not in ("", None, [], {}))


_KINDS: dict[str, Callable[[Case, Event], list[Line]]] = {
    "accepted": _accepted,
    "refused": _refused,
    "operator": _operator,
    "report": _report,
}


def _led_to(case: Case, data: Mapping[str, Any]) -> list[Line]:
    wanted = {one.get("id") for one in data.get("led_to", ())}
    found = [link for link in case.links if not link.came_from and ids.to_text(link.trace) in wanted]
    return [_line(0, *_linked(link), depth=1) for link in found]


def _linked(link: Link) -> tuple[Part, ...]:
    """A message that this one came from or led to, in one line."""
    words = (_CAME_FROM if link.came_from else _LED_TO).get(link.why, link.why)
    text = f"{'' if link.came_from else '→ '}{words} {ids.to_text(link.trace)}"
    if link.case is None:
        return (text, ""), (" (its trace is gone)", "dim")
    short = outcome.summary(link.case)
    whom = f"from {short.sender or '<>'}" if link.came_from else f"to {', '.join(short.recipients[:3])}"
    last = f", {short.last}" if short.last else ""
    style = STYLES.get(short.state, "")
    return (f"{text} {whom}: ", ""), (short.state, style), (last, "")


def _now(case: Case, now: int) -> list[Line]:
    """How things stand."""
    lines: list[Line] = []
    for one in case.waiting[:MOST]:
        match one.state:
            case "held":
                text = "is held until an operator lets it go"
            case "claimed":
                text = f"is being tried (attempt {one.attempts + 1})"
            case _ if one.next_attempt <= now:
                text = f"is due for attempt {one.attempts + 1}"
            case _:
                left, when = lasted(one.next_attempt - now), clock(one.next_attempt)[:19]
                text = f"waits for attempt {one.attempts + 1}, in {left} ({when})"
        lines.append(_line(0, f"{one.address} ", (text, "wait"), depth=1))
    if lines:
        lines.insert(0, _line(0, ("Now", "head")))
    lines += _more(len(case.waiting) - MOST)
    others = [link.trace for link in case.links if link.case is not None]
    lines += [_line(0, (f"More: posthouse explain {ids.to_text(other)}", "dim")) for other in others]
    return lines
