"""The routes of the settings, ready to be looked up. Files with passwords and secrets are read once, here.

A recipient goes by the first [[route]] whose `to` and `from` both fit. A pattern is a domain, all names below a domain
("*.example.org"), or a whole address, compared in lower case; in `from` it may also be the name of an account. Looking
one up costs a few look-ups in sets for each route, however many patterns it has.

Raises `Permanent` if a file cannot be used.
"""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from posthouse.base import route_settings
from posthouse.base.errors import Permanent
from posthouse.base.queue_settings import Smarthost
from posthouse.base.settings import Settings
from posthouse.queue.pools import Pool, Source
from posthouse.queue.routes import Credentials, Host, Patterns, Route, Row, Table, Target
from posthouse.smtp.replies import Reply

SUBMISSION_PORT = 587
MIN_SECRET, MAX_SECRET = 16, 1024  # octets


def table_of(settings: Settings) -> Table:
    """The [[route]] tables, then the smart host, then the MX records."""
    pools = {
        one.name: Pool(one.name, [Source(source.address, source.helo) for source in one.sources])
        for one in settings.pool
    }
    pool, port = pools.get(settings.relay.pool), settings.relay.port
    smart = settings.relay.smarthost
    return Table(
        [Row(Patterns(one.to), Patterns(one.from_), _route(one, pools, pool, port)) for one in settings.route],
        Route(host=Host("", port, pool=pool)) if smart is None else _smart(smart, pool, port),
    )


def own_names(settings: Settings) -> frozenset[str]:
    """What this server is called: mail for such a host would come back to it."""
    names = {settings.hostname}
    names |= {source.helo for pool in settings.pool for source in pool.sources}
    return frozenset(names | {name for named in settings.tls.named for name in named.names if "*" not in name})


def _smart(smart: Smarthost, pool: Pool | None, mx_port: int) -> Route:
    login = _login("relay.smarthost", smart.user, smart.password_file)
    host = Host(smart.host, smart.port, smart.tls, login, pool)
    return Route(next_hop=smart.host, hosts=(host,), host=Host("", mx_port, pool=pool))


def _route(one: route_settings.Route, pools: Mapping[str, Pool], pool: Pool | None, mx_port: int) -> Route:
    pool = pools[one.pool] if one.pool else pool
    where = f"route {one.name}"
    template = Route(name=one.name)
    match one.via:
        case "direct":
            return template._replace(host=Host("", mx_port, one.tls_mode, pool=pool))
        case "smarthost":
            login = _login(where, one.user, one.password_file)
            port = one.port or SUBMISSION_PORT
            hosts = tuple(Host(name, port, one.tls_mode, login, pool, ca=one.ca) for name in one.host)
            return _fixed(template._replace(hosts=hosts), one.host[0])
        case "lmtp" if one.path is not None:
            # RFC 2033 has no name for who listens on a socket; reports name this machine.
            host = Host("localhost", 0, "none", lmtp=True, path=str(one.path))
            return _fixed(template._replace(hosts=(host,)), "localhost")
        case "lmtp":
            hosts = tuple(Host(name, one.port or 0, one.tls_mode, lmtp=True, ca=one.ca) for name in one.host)
            return _fixed(template._replace(hosts=hosts), one.host[0])
        case "webhook":
            assert one.secret_file is not None
            target = Target(one.url, _secret(where, one.secret_file), one.ca)
            return _fixed(template._replace(kind="webhook", target=target), urlsplit(one.url).hostname or "")
        case "discard":
            return _fixed(template._replace(kind="discard"), "discard")
        case "error":
            return _fixed(template._replace(kind="error", reply=Reply(*one.answer)), "error")


def _fixed(route: Route, first: str) -> Route:
    """A route whose next hop is the same for all destinations; the name of its host comes first, for limits."""
    return route._replace(next_hop=f"{first} route:{route.name}")


def _login(where: str, user: str | None, file: Path | None) -> Credentials | None:
    if user is None or file is None:
        return None
    try:
        password = file.read_text("utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(f"password_file of {where}: {file} cannot be read: {error}") from error
    if not password:
        raise Permanent(f"password_file of {where}: {file} is empty")
    return Credentials(user, password)


def _secret(where: str, file: Path) -> bytes:
    try:
        secret = file.read_bytes()[: MAX_SECRET + 100].strip()
    except OSError as error:
        raise Permanent(f"secret_file of {where}: {file} cannot be read: {error.strerror}") from error
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        raise Permanent(
            f"secret_file of {where}: {file} holds no secret of {MIN_SECRET} to {MAX_SECRET} characters; "
            "make one with `openssl rand -hex 32`"
        )
    return secret
