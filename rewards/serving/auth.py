"""Who may ask: whoever has the token, which is compared in constant time and never stands in a command line."""

import hmac
import ipaddress
from pathlib import Path

from rewards.errors import UsageError
from rewards.secrets import read_secret
from rewards.serving.limits import Refusal

SERVER_TOKEN = "DGPO_SERVE_TOKEN"
SHORTEST = 16
_MAKE_ONE = "Make one: openssl rand -hex 24"


def read_token(file: Path | None) -> str | None:
    """The token of this server from a file, else from DGPO_SERVE_TOKEN, else none.

    Raises:
        UsageError: a file that cannot be read, or a token that is easily guessed.
    """
    if file is None:
        token, place = read_secret(SERVER_TOKEN), SERVER_TOKEN
    else:
        try:
            token, place = file.read_text().strip(), str(file)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--token-file {file} cannot be read: {error}.") from None
    if token is None:
        return None
    if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(f"The token in {place} has to be {SHORTEST} ASCII characters or more. {_MAKE_ONE}")
    return token


def open_to_others(file: Path | None) -> str:
    """A sentence where a token file can be read by others than its owner, else nothing."""
    if file is None or not file.stat().st_mode & 0o077:
        return ""
    return f"{file} can be read by other users of this machine; keep it to yourself: chmod 600 {file}"


def refuse_open_door(host: str, token: str | None) -> None:
    """UsageError when others than this machine could ask without a token."""
    if token is None and not is_loopback(host):
        raise UsageError(
            f"--host {host} lets other machines in, so a token is needed: put it into {SERVER_TOKEN} or give "
            f"--token-file FILE; clients give the same in DGPO_REWARD_TOKEN. {_MAKE_ONE}"
        )


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_token(header: str | None, token: str | None) -> None:
    """Refusal 401 unless the header Authorization is `Bearer` and the token; nothing to check without one."""
    if token is None:
        return
    kind, _, given = (header or "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    if kind.lower() != "bearer" or not same:
        raise Refusal(401, "This server wants its token: Authorization: Bearer TOKEN (clients: DGPO_REWARD_TOKEN).")
