"""An attempt over a route, whatever it leads to: SMTP and LMTP servers, a program behind a URL, nowhere, an error.

Every transport gives a `Report`, so that trace, retries and reports to the sender work alike. SMTP and LMTP are
`queue/remote.py`, posting is `queue/transports_webhook.py`; what needs nobody else is here.
"""

from posthouse.queue.outgoing import Outgoing
from posthouse.queue.remote import Sender
from posthouse.queue.results import DELIVERED, Report, Verdict
from posthouse.queue.routes import Route
from posthouse.queue.transports_webhook import WebhookTransport


class Transports:
    """All of them."""

    def __init__(self, sender: Sender, webhooks: WebhookTransport) -> None:
        self._sender = sender
        self._webhooks = webhooks

    async def attempt(self, route: Route, outgoing: Outgoing, name: str) -> Report:
        """Try to deliver over a route. `name` is the message's trace id, as people see it."""
        return (await self._attempt(route, outgoing, name))._replace(route=route.name)

    async def _attempt(self, route: Route, outgoing: Outgoing, name: str) -> Report:
        match route.kind:
            case "smtp":
                return await self._sender.attempt(route, outgoing)
            case "webhook":
                assert route.target is not None
                return await self._webhooks.attempt(route.target, outgoing, name)
            case "discard":
                # As if another server reported: nobody is told that it was delivered or passed on.
                text = f"Discarded by route {route.name}"
                return _all(outgoing, Verdict(DELIVERED, 250, "2.0.0", text, "", False, dsn=True))
            case "error":
                assert route.reply is not None
                return _all(outgoing, Verdict.of(route.reply)._replace(rule=bool(route.name)))


def _all(outgoing: Outgoing, verdict: Verdict) -> Report:
    return Report(dict.fromkeys(outgoing.recipients, verdict), [f"! {verdict.text}"])
