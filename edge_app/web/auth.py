"""Who uses the web page and what they may do: roles, passwords, sessions, and the token that proves a form is ours."""

import hashlib
import hmac
import re
import secrets
import sqlite3
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from edge_app.store.database import timestamp
from edge_app.store.store import Store
from keras_realmnet.errors import RealMNetError

__all__ = [
    "LOCAL_USER",
    "PERMISSIONS",
    "ROLES",
    "Login",
    "Permission",
    "Role",
    "TooManyAttempts",
    "User",
    "add_user",
    "csrf_token",
    "is_token",
    "new_token",
    "remove_user",
    "set_password",
    "users",
]

Role = Literal["operator", "clinician", "admin"]
Permission = Literal["view", "review", "set_eye", "retry", "retry_delivery", "audit"]
ROLES: tuple[Role, ...] = get_args(Role)

# The one table of who may do what; the page "About" shows it.
PERMISSIONS: dict[Permission, frozenset[Role]] = {
    "view": frozenset(ROLES),
    "review": frozenset(ROLES),
    "set_eye": frozenset(ROLES),
    "retry": frozenset({"operator", "admin"}),
    "retry_delivery": frozenset({"operator", "admin"}),
    "audit": frozenset({"admin"}),
}

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
PASSWORD_LENGTH = (12, 256)  # characters; the upper end bounds the work of hashing
ATTEMPT_WINDOW = timedelta(minutes=15)  # in which failed logins count
ACCOUNT_LIMIT, ADDRESS_LIMIT = 10, 30  # failed logins per account and per address in that time
SESSION_LIFETIME = timedelta(hours=12)  # of a session, however busy
LAST_USE_INTERVAL = timedelta(seconds=60)  # a session's last use is written no more often
MAX_CLOCK_LEAD = timedelta(seconds=60)  # what is further ahead is of before the clock was set back: void

_hasher = PasswordHasher()  # argon2id, 64 MiB
_UNKNOWN_NAME_HASH = _hasher.hash(secrets.token_urlsafe())  # what the passwords of unknown names are compared with
_two_at_a_time = threading.BoundedSemaphore(2)  # logins together may not fill a small box's memory


@dataclass(frozen=True)
class User:
    name: str
    role: Role

    def may(self, permission: Permission) -> bool:
        return self.role in PERMISSIONS[permission]


# Where only this machine can reach the page, whoever sits at it may do everything.
LOCAL_USER = User("local", "admin")


class TooManyAttempts(Exception):
    """The account or the address has failed too often; the password was not even looked at."""


class Login:
    """Sessions of the page. A token is known to the browser alone: the data base holds its SHA-256."""

    def __init__(self, store: Store, session_minutes: int):
        self._store = store
        self._idle = timedelta(minutes=session_minutes)
        self._unsaved: dict[str, str] = {}  # when sessions were last used, where it could not be written

    def login(self, name: str, password: str, address: str) -> str | None:
        """A new session's token, or None for a wrong name or password, which take the same time to refuse.

        Raises:
            TooManyAttempts: see ACCOUNT_LIMIT and ADDRESS_LIMIT.
        """
        account = _account(name)
        self._count_attempt(account, address)
        known = name if NAME.fullmatch(name) else ""
        row = self._store.db.execute("SELECT name, password_hash FROM users WHERE name = ?", (known,)).fetchone()
        if not _matches(_UNKNOWN_NAME_HASH if row is None else row["password_hash"], password) or row is None:
            self._store.audit("web", "login failed", detail=name if row is not None else "unknown name")
            return None
        token, now = new_token(), timestamp()
        with self._store.write() as db:
            db.execute("DELETE FROM login_attempts WHERE name = ? AND address = ?", (account, address))
            db.execute(
                "DELETE FROM sessions WHERE created_at NOT BETWEEN ? AND ? OR seen_at NOT BETWEEN ? AND ?",
                self._valid(),
            )
            db.execute(
                "INSERT INTO sessions (token_hash, user, created_at, seen_at) VALUES (?, ?, ?, ?)",
                (_hash(token), name, now, now),
            )
            if _hasher.check_needs_rehash(row["password_hash"]):
                db.execute("UPDATE users SET password_hash = ? WHERE name = ?", (_hasher.hash(password), name))
        self._store.audit(name, "logged in")
        return token

    def user(self, token: str, active: bool) -> User | None:
        """Whose session it is; `active`: somebody did something, so the time-out starts again.

        Also where the disk is full: nobody could log in again then.
        """
        key, (first_created, last_created, first_seen, last_seen) = _hash(token), self._valid()
        row = self._store.db.execute(
            "SELECT users.name, role, seen_at FROM sessions JOIN users ON users.name = sessions.user"
            " WHERE token_hash = ? AND sessions.created_at BETWEEN ? AND ?",
            (key, first_created, last_created),
        ).fetchone()
        if row is None:
            return None
        seen = max(row["seen_at"], self._unsaved.get(key, ""))
        if not first_seen <= seen <= last_seen:
            return None
        if active and seen < timestamp(datetime.now(timezone.utc) - LAST_USE_INTERVAL):
            self._write_last_use(key)
        return User(row["name"], row["role"])

    def _write_last_use(self, key: str) -> None:
        now = timestamp()
        try:
            with self._store.write() as db:
                db.execute("UPDATE sessions SET seen_at = ? WHERE token_hash = ?", (now, key))
            self._unsaved.pop(key, None)
        except sqlite3.OperationalError:
            self._unsaved[key] = now

    def logout(self, token: str) -> None:
        with self._store.write() as db:
            db.execute("DELETE FROM sessions WHERE token_hash = ?", (_hash(token),))

    def _valid(self) -> tuple[str, str, str, str]:
        """A session counts that was created between the first two moments and last used between the others."""
        now = datetime.now(timezone.utc)
        latest = timestamp(now + MAX_CLOCK_LEAD)
        return timestamp(now - SESSION_LIFETIME), latest, timestamp(now - self._idle), latest

    def _count_attempt(self, account: str, address: str) -> None:
        """Counts before the password is looked at, in one transaction, so that attempts at once are no way around."""
        now = datetime.now(timezone.utc)
        with self._store.write() as db:
            counted = (timestamp(now - ATTEMPT_WINDOW), timestamp(now + MAX_CLOCK_LEAD))
            db.execute("DELETE FROM login_attempts WHERE at NOT BETWEEN ? AND ?", counted)
            for column, value, limit in (("name", account, ACCOUNT_LIMIT), ("address", address, ADDRESS_LIMIT)):
                [failed] = db.execute(f"SELECT count(*) FROM login_attempts WHERE {column} = ?", (value,)).fetchone()
                if failed >= limit:
                    raise TooManyAttempts
            db.execute("INSERT INTO login_attempts VALUES (?, ?, ?)", (timestamp(now), account, address))


def new_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def is_token(text: str | None) -> bool:
    return text is not None and TOKEN.fullmatch(text) is not None


def csrf_token(token: str) -> str:
    """What every form of this browser carries: it follows from the cookie's token, but not the other way round."""
    return hmac.new(token.encode(), b"form", hashlib.sha256).hexdigest()


def add_user(store: Store, name: str, role: str, password: str) -> None:
    """Raises RealMNetError for a name, role or password that is not acceptable, or a name that is taken."""
    if not NAME.fullmatch(name):
        raise RealMNetError(
            f"A user name is up to 64 lower-case letters, digits, '.', '-' and '_', and begins with a letter or digit. "
            f"Received: {name!r}"
        )
    if role not in ROLES:
        raise RealMNetError(f"The role must be one of {', '.join(ROLES)}. Received: {role!r}")
    hashed = _hash_password(password)
    with store.write() as db:
        if db.execute("SELECT 1 FROM users WHERE name = ?", (name,)).fetchone():
            raise RealMNetError(f"there is already a user {name!r}")
        db.execute("INSERT INTO users VALUES (?, ?, ?, ?)", (name, role, hashed, timestamp()))
    store.audit("command line", "user added", detail=f"{name}, {role}")


def set_password(store: Store, name: str, password: str) -> None:
    """Also ends the user's sessions. Raises RealMNetError for an unknown user or a password that is not acceptable."""
    hashed = _hash_password(password)
    with store.write() as db:
        if not db.execute("UPDATE users SET password_hash = ? WHERE name = ?", (hashed, name)).rowcount:
            raise RealMNetError(f"there is no user {name!r}")
        db.execute("DELETE FROM sessions WHERE user = ?", (name,))
    store.audit("command line", "password set", detail=name)


def remove_user(store: Store, name: str) -> None:
    """Also ends the user's sessions; what they wrote stays. Raises RealMNetError for an unknown user."""
    with store.write() as db:
        if not db.execute("DELETE FROM users WHERE name = ?", (name,)).rowcount:
            raise RealMNetError(f"there is no user {name!r}")
    store.audit("command line", "user removed", detail=name)


def users(store: Store) -> list[User]:
    return [User(row["name"], row["role"]) for row in store.db.execute("SELECT name, role FROM users ORDER BY name")]


def _hash_password(password: str) -> str:
    shortest, longest = PASSWORD_LENGTH
    if not shortest <= len(password) <= longest:
        raise RealMNetError(f"A password has {shortest} to {longest} characters. Received: {len(password)}")
    return _hasher.hash(password)


def _matches(password_hash: str, password: str) -> bool:
    with _two_at_a_time:
        try:
            return _hasher.verify(password_hash, password[: PASSWORD_LENGTH[1] + 1])  # longer than any: never right
        except (VerificationError, InvalidHashError):
            return False


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _account(name: str) -> str:
    """Hashed, since people type their password into the wrong field."""
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
