"""The configuration file: TOML to `Settings`, and errors that name the file, the line, the key and the cure.

`load` looks at the text alone, so that every command works wherever the file is read. `check` looks
further, at what the settings point to: files, keys, addresses. Everything wrong is told at once.
Which settings there are is told by `base/settings.py`.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from posthouse.base import toml_lines
from posthouse.base.errors import Permanent, PosthouseError
from posthouse.base.settings import EVERY_ADDRESS, Listen, Settings
from posthouse.base.units import human_size
from posthouse.base.webhook_settings import wrong_with_secret
from posthouse.filter import hooks
from posthouse.net.local import is_of_this_machine

ENVIRONMENT = "POSTHOUSE_CONFIG"
DEFAULT_PATHS = (Path("posthouse.toml"), Path("/etc/posthouse/posthouse.toml"))

_position = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


class Problem(NamedTuple):
    """One thing that is wrong, where, and what to do."""

    file: str
    line: int  # 0: the file as a whole
    key: str  # dotted; "" where there is none
    text: str
    cure: str = ""
    warning: bool = False

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        cure = f" {self.cure}" if self.cure else ""
        return f"{where}: {key}{self.text}.{cure}"


class ConfigError(PosthouseError):
    """The configuration cannot be used; `problems` has one entry for each mistake."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def find(given: Path | None = None) -> Path:
    """The file to read: the one given, else of the environment variable, else the first that is there."""
    if given is not None:
        return given
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    return next((path for path in DEFAULT_PATHS if path.is_file()), DEFAULT_PATHS[0])


def load(path: Path) -> Settings:
    """Settings from a file. Raises `ConfigError`."""
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        cure = (
            "Write one with `posthouse config example > posthouse.toml`, or name another with --config "
            f"or {ENVIRONMENT}; `posthouse demo` needs none."
        )
        raise ConfigError([Problem(str(path), 0, "", "there is no such configuration file", cure)]) from None
    except IsADirectoryError:
        cure = f"Name the file in it, perhaps {path / 'posthouse.toml'}."
        raise ConfigError([Problem(str(path), 0, "", "is a folder, not a configuration file", cure)]) from None
    except OSError as error:
        cure = "Its reader must be the user that runs Posthouse."
        raise ConfigError([Problem(str(path), 0, "", f"cannot be read: {error.strerror}", cure)]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(str(path), line, "", "is not UTF-8", "Save it as UTF-8.")]) from None
    return parse(text, str(path), path.parent)


def parse(text: str, name: str = "posthouse.toml", folder: Path | None = None) -> Settings:
    """Settings from text; `name` is for the errors, `folder` is where relative paths start."""
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ConfigError([Problem(name, 0, "", "is nested too deeply", "")]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax_problem(text, name, str(error))]) from None
    try:
        return Settings.model_validate(table, context={"folder": folder})
    except ValidationError as error:
        lines = toml_lines.lines_of(text)
        told = error.errors(include_url=False)
        unknown = {details["loc"][:-1] for details in told if details["loc"][-1:] == ("service",)}
        found = [
            _problem(name, lines, table, details)
            for details in told
            # The port depends on the service: if that is wrong, nothing can be said of it.
            if not (
                details["type"] == "missing" and details["loc"][-1:] == ("port",) and details["loc"][:-1] in unknown
            )
        ]
        problems = list(dict.fromkeys(found))  # a value of two possible types fails twice
        problems.sort(key=lambda problem: problem.line)
        raise ConfigError(problems) from None


def _syntax_problem(text: str, name: str, said: str) -> Problem:
    line, cure = text.count("\n") + 1, "This is TOML; strings need quotes, every key stands once."
    if found := _position.search(said):
        said = said[: found.start()]
        line = int(found[1]) if found[1] else line
    return Problem(name, line, "", said[:1].lower() + said[1:], cure)


def _problem(
    name: str, lines: Mapping[toml_lines.Path, int], table: Mapping[str, Any], details: ErrorDetails
) -> Problem:
    location = _real_part(details["loc"], table)
    line = next((lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in lines), 0)
    key = ".".join(str(part) for part in location if isinstance(part, str))
    text, cure = _explain(details, location)
    return Problem(name, line, key, text.rstrip("."), cure)


def _real_part(location: tuple[int | str, ...], table: Any) -> tuple[int | str, ...]:
    """The part of pydantic's location that is keys: it adds names of types and of the arms of a union."""
    real: list[int | str] = []
    for number, part in enumerate(location):
        if isinstance(table, Mapping) and part in table:
            table = table[str(part)]
        elif isinstance(table, list) and isinstance(part, int) and part < len(table):
            table = table[part]
        elif isinstance(table, Mapping) and number == len(location) - 1:
            return (*real, part)  # a missing key is a location too
        else:
            break
        real.append(part)
    return tuple(real)


def _explain(details: ErrorDetails, location: tuple[int | str, ...]) -> tuple[str, str]:
    """What is wrong and the cure, in the words of the file instead of pydantic's."""
    kind, context, given = details["type"], details.get("ctx", {}), details["input"]
    match kind:
        case "extra_forbidden":
            return "there is no such setting", _suggest(location)
        case "missing":
            return "is missing", f"Add `{location[-1]} = …`."
        case "value_error":
            return _split(str(context["error"]))
        case "literal_error":
            words = [word.strip("'") for word in re.findall(r"'[^']*'", str(context["expected"]))]
            near = get_close_matches(str(given), words, 1)
            hint = f'Did you mean "{near[0]}"? ' if near else ""
            return f"{_show(given)} is not possible here", f"{hint}Write one of {', '.join(words)}."
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            limit = next(iter(context.values()))
            return f"{_show(given)} is out of range", f"Write {_BOUNDS[kind]} {limit}."
        case "too_short" | "string_too_short":
            return "is empty", "Write something or leave it out."
        case "too_long":
            return f"has {context['actual_length']} entries", f"{context['max_length']} are the most."
    return f"{_show(given)} does not fit here", f"Write {_wanted(kind, location)}."


def _split(text: str) -> tuple[str, str]:
    """Our own validators say "what is wrong; the cure"."""
    text, _, cure = text.partition("; ")
    return text, f"{cure[:1].upper()}{cure[1:]}." if cure else ""


def _show(given: object) -> str:
    if isinstance(given, Mapping):
        return "a table"
    if isinstance(given, list):
        return "a list"
    if isinstance(given, bool):
        return str(given).lower()
    text = str(given) if not isinstance(given, str) else f'"{given}"'
    return text if len(text) <= 60 else text[:57] + "…"


_BOUNDS = {
    "greater_than_equal": "at least",
    "greater_than": "more than",
    "less_than_equal": "at most",
    "less_than": "less than",
}
_WANTED = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text in quotes",
    "tuple": "a list: [ … ]",
    "dict": "a table: { … }",
    "path": "a path in quotes",
    "model": "a table",
    "ip": 'networks like "192.0.2.0/24"',
}


def _wanted(kind: str, location: tuple[int | str, ...]) -> str:
    path = tuple(str(part) for part in location if isinstance(part, str))
    if kind.startswith(("model", "tuple")) and path in {table for table, _ in sections()}:
        header = title(path)
        return f"each one as a table under {header}" if header.startswith("[[") else f"it as a table: {header}"
    if kind.startswith("model"):
        return f"it as a table: [{'.'.join(str(part) for part in location)}]"
    return _WANTED.get(kind.split("_")[0], "another value")


def sections(
    model: type[BaseModel] = Settings, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    """Every table of the file, by path: () is the top, ("relay", "smarthost") is [relay.smarthost]."""
    yield path, model
    for name, field in keys(model).items():
        for inner in _models_in(field.annotation):
            yield from sections(inner, (*path, name))


def keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The settings of a table by their keys in the file."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _suggest(location: tuple[int | str, ...]) -> str:
    """The setting that an unknown key was meant to be: near in spelling, or in another table."""
    path = tuple(part for part in location[:-1] if isinstance(part, str))
    key = str(location[-1])
    tables = {name: list(keys(model)) for name, model in sections()}
    here = tables.get(path, [])
    normal = key.lower().replace("-", "_")
    if near := get_close_matches(normal, here, 1, 0.75):
        return f"Did you mean `{near[0]}`?"
    for name, others in tables.items():
        if found := get_close_matches(normal, others, 1, 0.85):
            return f"Did you mean `{found[0]}` in {_header(name)}?"
    return f"Known here: {', '.join(here)}." if here else "Remove it."


def title(path: tuple[str, ...]) -> str:
    """The line that begins a table: [tls], or [[listen]] for one of several."""
    model: Any = Settings
    repeated = False
    for name in path:
        annotation = keys(model)[name].annotation
        repeated = get_origin(annotation) is tuple
        (model, *_) = _models_in(annotation)
    name = ".".join(path)
    return f"[[{name}]]" if repeated else f"[{name}]"


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _header(path: tuple[str, ...]) -> str:
    return title(path) if path else "the first lines, before any [table]"


def check(settings: Settings, name: str = "posthouse.toml", text: str = "") -> list[Problem]:
    """What is wrong with what the settings point to. Changes nothing and asks no other machine."""
    lines = toml_lines.lines_of(text)
    problems: list[Problem] = []

    def add(key: str | toml_lines.Path, says: str, cure: str, *, warning: bool = False) -> None:
        path = tuple(key.split(".")) if isinstance(key, str) else key
        key = ".".join(part for part in path if isinstance(part, str))
        says = says.rstrip(".")
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 0)
        problems.append(Problem(name, line, key, says, cure, warning))

    if "." not in settings.hostname:
        cure = "Other servers distrust it; write the full name, like mail.example.org."
        add("hostname", f'"{settings.hostname}" has no dot', cure, warning=True)
    for named, path, is_secret in _files(settings):
        if not os.access(path, os.R_OK):
            says = "cannot be read" if path.exists() else "there is no such file"
            add(named, f"{path}: {says}", "Make the file or correct the path.")
        elif is_secret and path.stat().st_mode & 0o077:
            add(named, f"{path} can be read by others", f"Run `chmod 600 {path}`.", warning=True)
    if not settings.listen:
        add("listen", "nothing is served", "Remove `listen` to serve every standard port.")
    env = settings.storage.key_env
    if env is not None and not os.environ.get(env):
        add("storage.key_env", f"the environment variable {env} is not set", "Set it where the server starts.")
    if settings.filter.policy is not None and os.access(settings.filter.policy, os.R_OK):
        try:
            hooks.load(settings.filter.policy)
        except Permanent as error:
            add("filter.policy", str(error).removeprefix("filter.policy: "), "The server would not start.")
    for number, webhook in enumerate(settings.webhook):
        if os.access(webhook.secret_file, os.R_OK) and (says := wrong_with_secret(webhook)):
            add(("webhook", number, "secret_file"), says, "Make one with `openssl rand -hex 32`.")
    if all(problem.warning for problem in problems):  # every file can be read
        for key, says, cure in _unusable(settings):
            add(key, says, cure)
    for number, rule in enumerate(settings.filter.rule):
        if rule.action in ("reject", "defer") and not rule.has_conditions:
            says = f"a rule without conditions: it would {rule.action} everything that no rule before it accepts"
            add(("filter", "rule", number), says, "Add a condition, or remove the rule.", warning=True)
    for number, listen in enumerate(settings.listen):
        if any(_collide(listen, other) for other in settings.listen[:number]):
            socket_name = listen.path or f"port {listen.port} of {listen.address}"
            add(
                ("listen", number),
                f"{socket_name} is taken by another [[listen]] above",
                "Name another port or address.",
            )
    if any(listen.proxy_protocol for listen in settings.listen) and not settings.proxies:
        add("proxies", "a port expects PROXY headers, and no proxy is named", "Name the addresses of your proxies.")
    for network in settings.relay.networks:
        if network.prefixlen == 0:
            add(
                "relay.networks",
                f"{network} lets everybody send through this server",
                "Name your own networks.",
            )
    for address in dict.fromkeys(one.address for one in settings.listen if one.path is None):
        if address != EVERY_ADDRESS and not is_of_this_machine(address):
            cure = 'Write one that `ip address` shows, or "*" for every address.'
            add("listen", f"this machine has no address {address}", cure)
    for number, pool in enumerate(settings.pool):
        for place, source in enumerate(pool.sources):
            if not is_of_this_machine(source.address):
                cure = "Mail could not leave from there; write one that `ip address` shows."
                where = ("pool", number, "sources", place, "address")
                add(where, f"this machine has no address {source.address}", cure)
    for number, route in enumerate(settings.route):
        if route.url.startswith("http://") and not _is_near(urlsplit(route.url).hostname or ""):
            says = f"route {route.name} shows everybody on the way the mail it posts"
            add(("route", number, "url"), says, "Write https://.", warning=True)
    for number, one in enumerate(settings.listen):
        if one.service == "lmtp" and one.path is None and not one.networks and _is_public(one.address):
            add(
                ("listen", number, "service"),
                "lmtp takes mail from everywhere past all filters",
                "Name the `networks` that deliver by it, or listen on a loopback address or a UNIX socket.",
                warning=True,
            )
        closed = one.path is not None or bool(one.networks)
        if one.allow_plaintext_auth and not closed and one.address in (EVERY_ADDRESS, "0.0.0.0", "::"):  # noqa: S104
            add(
                ("listen", number, "allow_plaintext_auth"),
                f"{one.service} takes passwords without TLS from everywhere",
                "Remove allow_plaintext_auth, name the `networks` that may connect, or listen on a loopback address.",
                warning=True,
            )
    problems += _disk(settings, name, lines)
    return problems


def _is_near(host: str) -> bool:
    """A host of one's own network: a private address, or a name without a dot."""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host


def _is_public(address: str) -> bool:
    return address == EVERY_ADDRESS or not ip_address(address).is_loopback


def _files(settings: Settings) -> Iterator[tuple[str | toml_lines.Path, Path, bool]]:
    """Every file that the settings name: key, path, and whether it is a secret."""
    if settings.tls.certificate is not None:
        yield "tls.certificate", settings.tls.certificate, False
    if settings.tls.key is not None:
        yield "tls.key", settings.tls.key, True
    for number, named in enumerate(settings.tls.named):
        yield ("tls", "named", number, "certificate"), named.certificate, False
        yield ("tls", "named", number, "key"), named.key, True
    for number, listen in enumerate(settings.listen):
        if listen.certificate is not None and listen.key is not None:
            yield ("listen", number, "certificate"), listen.certificate, False
            yield ("listen", number, "key"), listen.key, True
        if listen.client_ca is not None:
            yield ("listen", number, "client_ca"), listen.client_ca, False
    if settings.transport_security.ca is not None:
        yield "transport_security.ca", settings.transport_security.ca, False
    if settings.storage.key_file is not None:
        yield "storage.key_file", settings.storage.key_file, True
    if settings.filter.policy is not None:
        yield "filter.policy", settings.filter.policy, False
    oauth = settings.auth.oauth
    if oauth is not None and oauth.jwks is not None and not oauth.jwks.startswith(("https://", "http://")):
        yield "auth.oauth.jwks", Path(oauth.jwks), False
    if oauth is not None and oauth.client_secret_file is not None:
        yield "auth.oauth.client_secret_file", oauth.client_secret_file, True
    if settings.relay.smarthost is not None and settings.relay.smarthost.password_file is not None:
        yield "relay.smarthost.password_file", settings.relay.smarthost.password_file, True
    for number, webhook in enumerate(settings.webhook):
        yield ("webhook", number, "secret_file"), webhook.secret_file, True
    for number, route in enumerate(settings.route):
        if route.password_file is not None:
            yield ("route", number, "password_file"), route.password_file, True
        if route.secret_file is not None:
            yield ("route", number, "secret_file"), route.secret_file, True
        if route.ca is not None:
            yield ("route", number, "ca"), route.ca, False


def _collide(one: Listen, other: Listen) -> bool:
    """Whether both cannot listen."""
    if one.path is not None or other.path is not None:
        return one.path == other.path
    same = one.address == other.address or EVERY_ADDRESS in (one.address, other.address)
    return same and one.port == other.port != 0


def _unusable(settings: Settings) -> Iterator[tuple[toml_lines.Path, str, str]]:
    """The files that are there and would not do: key, why, and the cure."""
    tls, oauth = settings.tls, settings.auth.oauth
    if says := wrong_with_certificate(tls.certificate, tls.key, [settings.hostname]):
        yield ("tls", "certificate"), says, "Posthouse needs a valid certificate of `hostname` and its key."
    for number, named in enumerate(tls.named):
        if says := wrong_with_certificate(named.certificate, named.key, named.names):
            yield ("tls", "named", number, "certificate"), says, "Name a valid certificate of these names and its key."
    for number, listen in enumerate(settings.listen):
        if says := wrong_with_certificate(listen.certificate, listen.key):
            yield ("listen", number, "certificate"), says, "Name a valid certificate and its key."
        if listen.client_ca is not None and (says := _wrong_with_ca(listen.client_ca)):
            yield ("listen", number, "client_ca"), says, "Name a PEM file with the CA's certificate."
    ca = settings.transport_security.ca
    if ca is not None and (says := _wrong_with_ca(ca)):
        yield ("transport_security", "ca"), says, "Name a PEM file with the CA's certificate."
    if oauth is not None and oauth.jwks is not None and not oauth.jwks.startswith(("https://", "http://")):
        from posthouse.auth.tokens import key_set

        try:
            key_set(Path(oauth.jwks).read_bytes())
        except ValueError as error:
            cure = 'It must be JSON as in RFC 7517: {"keys": [...]}.'
            yield ("auth", "oauth", "jwks"), f"{oauth.jwks} holds no keys: {error}", cure


def _wrong_with_ca(ca: Path) -> str:
    """Why it is no file of CAs; "" if it is one."""
    from posthouse.net.tls import client_context

    try:
        client_context(verify=True, ca=ca)
    except Permanent as error:
        return str(error)
    return ""


def wrong_with_certificate(certificate: Path | None, key: Path | None, names: Sequence[str] = ()) -> str:
    """Why a certificate would not do for these names, in words; "" if it does or none is given."""
    if certificate is None or key is None:
        return ""
    from cryptography import x509

    from posthouse.net.tls import server_context

    try:
        server_context(certificate, key)
        (first, *_) = x509.load_pem_x509_certificates(certificate.read_bytes())
    except (Permanent, ValueError) as error:
        return str(error)
    if first.not_valid_after_utc <= datetime.now(UTC):
        return f"{certificate} ended on {first.not_valid_after_utc:%Y-%m-%d}"
    try:
        extension = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        listed = [name.lower() for name in extension.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        listed = []
    for name in map(str.lower, names):
        if name not in listed and "*." + name.partition(".")[2] not in listed:
            return f"{certificate} is for {', '.join(listed) or 'no host name'}, not for {name}"
    return ""


def _disk(settings: Settings, name: str, lines: Mapping[toml_lines.Path, int]) -> Iterator[Problem]:
    existing = settings.data
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    line = lines.get(("data",), 0)
    if not os.access(existing, os.W_OK) or not existing.is_dir():
        cure = "Its owner must be the user that runs Posthouse."
        yield Problem(name, line, "data", f"{existing} cannot be written", cure)
        return
    disk = os.statvfs(existing)
    if not disk.f_blocks:  # /proc and its like
        yield Problem(name, line, "data", f"{existing} is no place for files", "Name a folder on a disk.")
        return
    free = disk.f_bavail * disk.f_frsize
    if free <= settings.storage.reserve:
        says = f"{human_size(free)} free, and storage.reserve is {human_size(settings.storage.reserve)}"
        yield Problem(name, line, "data", says, "No mail can be taken until there is more space.")
