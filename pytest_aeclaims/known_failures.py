"""Known failures: the file of --claims-xfails, a line for each claim that is expected to fail, with its reason.

    linear-mse  # our optimizer takes smaller steps  expires=2027-01-01

Strict: a listed claim that holds fails the run, and so do an id that no claim has, and a line that has expired.
"""

import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import NamedTuple

from aeclaims.errors import InvalidList

EXPIRES = re.compile(r"(?:^|\s)expires=(\S*)$")


class KnownFailure(NamedTuple):
    """One line: the claim, why it fails, the last day on which that excuses it, and where this is written."""

    id: str
    reason: str
    expires: date | None
    place: str

    def has_expired(self, today: date) -> bool:
        """Whether the day has passed."""
        return self.expires is not None and self.expires < today


def read(path: Path) -> dict[str, KnownFailure]:
    """The lines of a file by id; empty ones and those that begin with # are comments. Raises InvalidList."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidList(f"{path}: {error}") from None
    found: dict[str, KnownFailure] = {}
    for number, text in enumerate(lines, 1):
        if text.strip() and not text.lstrip().startswith("#"):
            known = _parsed(text.strip(), f"{path.name}:{number}")
            if known.id in found:
                raise InvalidList(f"{known.place}: {known.id} is listed already, at {found[known.id].place}")
            found[known.id] = known
    return found


def _parsed(text: str, place: str) -> KnownFailure:
    id, _, comment = (part.strip() for part in text.partition("#"))
    day = EXPIRES.search(comment)
    reason = EXPIRES.sub("", comment).strip()
    if "expires=" in reason:
        raise InvalidList(f"{place}: {text!r}: put expires=... at the end of the line")
    if not id or not reason:
        raise InvalidList(
            f"{place}: {text!r}: give an id, and behind # the reason: linear-mse  # reason  expires=2027-01-01"
        )
    expires = None
    if day is not None:
        try:
            expires = date.fromisoformat(day[1])
        except ValueError:
            raise InvalidList(f"{place}: expires={day[1]}: give a day, such as expires=2027-01-01") from None
    return KnownFailure(id, reason, expires, place)


def problems(listed: Iterable[KnownFailure], ids: Iterable[str], today: date) -> list[str]:
    """What is wrong with the list itself: lines of no claim, and expired ones."""
    there = set(ids)
    return [
        f"{known.place}: no claim has the id {known.id!r}: take the line out, or mend it"
        for known in listed
        if known.id not in there
    ] + [
        f"{known.place}: {known.id} expired on {known.expires}: mend the claim, or give it a new day"
        for known in listed
        if known.id in there and known.has_expired(today)
    ]
