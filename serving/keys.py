"""API keys: made, found by their secret, revoked."""

from __future__ import annotations

import hmac
import json
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from math import isfinite
from typing import Any

from data.records import CounterpointError
from serving.store import Store

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_BYTES = 32
FRESH_S = 2.0
"""Seconds after which a key is read again, so that what another process revokes ends here."""
REMEMBERED = 4096
"""Keys that are kept in memory."""
LOCAL = "local"
"""Owner of what is asked without a key, where the endpoint listens to its own machine only."""

_LENGTH = 43  # digits that 32 bytes take: 62^43 > 2^256
_ID = re.compile(r"[0-9A-Za-z]{1,12}", re.ASCII)
_SECRET = re.compile(rf"cp-([0-9A-Za-z]{{12}})-([0-9A-Za-z]{{{_LENGTH}}})", re.ASCII)


class KeysError(CounterpointError):
    """A key that cannot be made, found or revoked."""


class Unauthorised(KeysError):
    """A request without a key that opens anything; it never says why, and never repeats what came."""

    def __init__(self) -> None:
        super().__init__("wanted an API key that is valid, as `Authorization: Bearer cp-...`")


@dataclass(frozen=True, slots=True)
class Key:
    """One API key, without its secret.

    Attributes:
        id: Its id, the part of the secret that may be seen.
        name: What people call it.
        allowed_experts: The only experts that it may ask, or None for all.
        denied_experts: Experts that it may not ask.
        requests_per_minute: Most requests in a minute, or None.
        tokens_per_minute: Most tokens in a minute, read and written, or None.
        budget_usd: Most that it may spend in all, in US dollars, or None.
        admin: Whether it may do what only those who run the endpoint may.
        defaults: Options of the body's `counterpoint` object for requests that do not set them.
        created_at: When it was made, in seconds since 1970.
        expires_at: When it ends, or None.
        revoked_at: When it was revoked, or None.
    """

    id: str
    name: str
    allowed_experts: tuple[str, ...] | None = None
    denied_experts: tuple[str, ...] = ()
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    budget_usd: float | None = None
    admin: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None

    def allows(self, expert: str) -> bool:
        """Whether it may ask an expert.

        Example:
            >>> [Key("k", "me", allowed_experts=("a", "b"), denied_experts=("b",)).allows(name) for name in "abc"]
            [True, False, False]
        """
        return expert not in self.denied_experts and (self.allowed_experts is None or expert in self.allowed_experts)

    def valid(self, now: float) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class _Known:
    """A key as it was read: `key` is None where there is no such id."""

    key: Key | None
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    changes: int
    read_at: float


class Keys:
    """The API keys of a store.

    A secret is `cp-`, the key's id, `-` and 32 random bytes; `create` shows it once, and what is stored is a salted hash. The hash is a
    fast one (BLAKE2b): slow hashes make guessing dear where people choose passwords, and 256 random bits cannot be guessed at any
    speed, while every request would pay for it.

    A revoked key ends at once in this process, and within `FRESH_S` seconds in others that use the store.

    Args:
        store: Where the keys are.
        clock: Seconds that only go up; what is remembered ages by it.
        now: Seconds since 1970; keys expire by it.

    Example:
        >>> import tempfile
        >>> with Store(f"sqlite:///{tempfile.mkdtemp()}/store.db") as store:
        ...     keys = Keys(store)
        ...     key, secret = keys.create("reports", budget_usd=5.0)
        ...     keys.find(secret) == key, keys.find(secret[:-1] + "~")
        (True, None)
    """

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._now = now
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._lock = threading.Lock()

    def create(
        self,
        name: str,
        *,
        allowed_experts: Sequence[str] | None = None,
        denied_experts: Sequence[str] = (),
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        budget_usd: float | None = None,
        admin: bool = False,
        expires: datetime | None = None,
        defaults: Mapping[str, Any] | None = None,
    ) -> tuple[Key, str]:
        """Make a key.

        Args:
            name: What people call it.
            allowed_experts: The only experts that it may ask, or None for all.
            denied_experts: Experts that it may not ask.
            requests_per_minute: Most requests in a minute, at least 1.
            tokens_per_minute: Most tokens in a minute, at least 1.
            budget_usd: Most that it may spend in all, in US dollars.
            admin: Whether it may do what only those who run the endpoint may.
            expires: When it ends, with a time zone.
            defaults: Options of the body's `counterpoint` object for requests that do not set them.

        Returns:
            The key, and its secret, which nobody can show again.

        Raises:
            KeysError: An argument does not fit.
        """
        now = self._now()
        if not name.strip() or len(name) > 200 or not name.isprintable():
            raise KeysError(f"a key's name must be 1 to 200 printable characters, not {name[:50]!r}")
        if allowed_experts is not None and not allowed_experts:
            raise KeysError("allowed_experts must name an expert, or be None for all")
        if both := sorted({*denied_experts} & {*(allowed_experts or ())}):
            raise KeysError(f"the expert {both[0]!r} cannot be both allowed and denied")
        for limit, value in (("requests_per_minute", requests_per_minute), ("tokens_per_minute", tokens_per_minute)):
            if value is not None and not (isfinite(value) and value >= 1):
                raise KeysError(f"{limit} must be at least 1, not {value}")
        if budget_usd is not None and not (0 <= budget_usd <= 1e9):
            raise KeysError(f"budget_usd must be from 0 to a billion, not {budget_usd}")
        if expires is not None and expires.tzinfo is None:
            raise KeysError(f"expires must have a time zone, not {expires.isoformat()}")
        if expires is not None and expires.timestamp() <= now:
            raise KeysError(f"expires must be in the future, not {expires.isoformat()}")
        try:
            options = json.loads(json.dumps(dict(defaults or {}), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise KeysError(f"defaults must be a JSON object: {error}") from error
        id = "".join(secrets.choice(DIGITS) for _ in range(12))
        token = _base62(secrets.token_bytes(SECRET_BYTES))
        salt = secrets.token_bytes(16)
        self._store.add_key(
            id,
            name=name,
            salt=salt,
            digest=_digest(token, salt),
            allowed_experts=None if allowed_experts is None else list(dict.fromkeys(allowed_experts)),
            denied_experts=list(dict.fromkeys(denied_experts)),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            budget_usd=budget_usd,
            admin=admin,
            defaults=options,
            created_at=now,
            expires_at=None if expires is None else expires.timestamp(),
        )
        row = self._store.key(id)
        assert row is not None
        return _key(row), f"cp-{id}-{token}"

    def find(self, secret: str) -> Key | None:
        """The key of a secret, or None; revoked, expired, unknown and malformed secrets all take the same steps."""
        id, token = _parts(secret)
        known = self._remembered(id) or self._read(id)
        right = hmac.compare_digest(_digest(token, known.salt), known.digest)
        open_ = known.key is not None and known.key.valid(self._now())
        return known.key if right & open_ else None

    def authorise(self, header: str | None) -> Key:
        """The key of an `Authorization` header.

        Raises:
            Unauthorised: It opens nothing.
        """
        key = self.find(_bearer(header))
        if key is None:
            raise Unauthorised
        return key

    def at_hand(self, header: str | None) -> bool:
        """Whether `authorise` would now answer without a look into the store."""
        return self._remembered(_parts(_bearer(header))[0]) is not None

    def revoke(self, id: str) -> None:
        """End a key; one that has ended already stays so.

        Raises:
            KeysError: There is no such key.
        """
        if id == LOCAL or not self._store.revoke_key(id, self._now()):
            shown = repr(id) if _ID.fullmatch(id) else "that was given"  # it may be a secret, given by mistake
            raise KeysError(f"no key has the id {shown}; `counterpoint keys list` shows them")

    def list(self) -> list[Key]:
        """All keys, oldest first, those that have ended too."""
        return [_key(row) for row in self._store.keys() if row["id"] != LOCAL]

    def named(self, text: str) -> Key:
        """The key of an id or a name, whatever its state.

        Raises:
            KeysError: There is no such key, or several have this name.
        """
        every = [_key(row) for row in self._store.keys()]
        if found := [key for key in every if key.id == text] or [key for key in every if key.name == text and key.id != LOCAL]:
            if len(found) > 1:
                raise KeysError(f"{len(found)} keys are called {text!r}: give the id of one, {', '.join(key.id for key in found)}")
            return found[0]
        shown = "that was given" if _SECRET.fullmatch(text) else repr(text[:80])  # a secret, given by mistake, is not repeated
        raise KeysError(f"no key has the name or id {shown}; `counterpoint keys list` shows them")

    def local(self) -> Key:
        """The key of those who need none; no secret opens it."""
        row = self._store.key(LOCAL)
        if row is None:
            try:
                self._store.add_key(LOCAL, name="without a key", salt=b"", digest=b"", created_at=self._now())
            except CounterpointError:  # another process was faster
                if self._store.key(LOCAL) is None:
                    raise
            row = self._store.key(LOCAL)
            assert row is not None
        return _key(row)

    def _remembered(self, id: str) -> _Known | None:
        """A key as it was a moment ago, or None."""
        with self._lock:
            known = self._known.get(id)
            if known is None or known.changes != self._store.key_changes or self._clock() - known.read_at >= FRESH_S:
                return None
            self._known.move_to_end(id)
            return known

    def _read(self, id: str) -> _Known:
        """A key as it is in the store now; ids that nobody has are remembered too, and found as fast."""
        changes, now = self._store.key_changes, self._clock()
        row = self._store.key(id)
        if row is None or not row["digest"]:
            known = _Known(None, bytes(16), bytes(32), changes, now)
        else:
            known = _Known(_key(row), row["salt"], row["digest"], changes, now)
        with self._lock:
            self._known[id] = known
            self._known.move_to_end(id)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return known


def _key(row: Mapping[str, Any]) -> Key:
    allowed = row["allowed_experts"]
    shown = {name: value for name, value in row.items() if name not in ("salt", "digest")}
    return Key(**shown | {"allowed_experts": None if allowed is None else tuple(allowed), "denied_experts": tuple(row["denied_experts"])})


def _bearer(header: str | None) -> str:
    """The secret in a header `Authorization`, empty where there is none."""
    scheme, _, secret = (header or "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


def _parts(secret: str) -> tuple[str, str]:
    """A secret's id and token; of one that is none, an id that nobody has."""
    parts = _SECRET.fullmatch(secret)
    return (parts[1], parts[2]) if parts else ("-", "")


def _digest(token: str, salt: bytes) -> bytes:
    return blake2b(token.encode(), digest_size=32, salt=salt, person=b"counterpoint-key").digest()


def _base62(value: bytes) -> str:
    r"""32 bytes as digits, always equally many.

    Example:
        >>> len(_base62(bytes(32))), len(_base62(b"\xff" * 32)), _base62(bytes(31) + b"\x3e")[-3:]
        (43, 43, '010')
    """
    number, digits = int.from_bytes(value, "big"), ""
    for _ in range(_LENGTH):
        number, digit = divmod(number, 62)
        digits = DIGITS[digit] + digits
    return digits
