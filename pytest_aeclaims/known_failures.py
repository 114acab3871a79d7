"""Known failures: the file of --claims-xfails, with a line and a reason for each claim that you expect to fail.

    linear-mse  # our optimizer takes smaller steps  expires=2027-01-01

The list is strict: the run fails if a listed claim holds, if no claim has a listed id, or if a line has expired.
"""

import re
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import NamedTuple

from aeclaims.errors import InvalidList

EXPIRES = re.compile(r"(?:^|\s)expires=(\S*)$")


class KnownFailure(NamedTuple):
    """One line of the file.

    Attributes:
        id: Id of the claim.
        reason: Why it fails.
        expires: Last day on which the run may pass; None if there is none.
        place: File and number of the line.
    """

    id: str
    reason: str
    expires: date | None
    place: str

    def has_expired(self, today: date) -> bool:
        """Return whether the last day has passed."""
        return self.expires is not None and self.expires < today


def read(path: Path) -> dict[str, KnownFailure]:
    """Read the lines of a file, by id. Empty lines, and lines that begin with #, are ignored.

    Raises:
        InvalidList: If the file cannot be read, a line is malformed, or an id is listed twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidList(f"{path}: {error}") from None
    found: dict[str, KnownFailure] = {}
    for number, text in enumerate(lines, 1):
        if text.strip() and not text.lstrip().startswith("#"):
            known = _parsed(text.strip(), f"{path.name}:{number}")
            if known.id in found:
                raise InvalidList(f"{known.place}: {known.id} is already listed, at {found[known.id].place}")
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
            f"{place}: {text!r}: give an id, and a reason after #: linear-mse  # reason  expires=2027-01-01"
        )
    expires = None
    if day is not None:
        try:
            expires = date.fromisoformat(day[1])
        except ValueError:
            raise InvalidList(f"{place}: expires={day[1]}: give a date, such as expires=2027-01-01") from None
    return KnownFailure(id, reason, expires, place)


def problems(listed: Iterable[KnownFailure], ids: Iterable[str], today: date) -> list[str]:
    """Return the errors of the list: ids that no claim has, and expired lines."""
    there = set(ids)
    return [
        f"{known.place}: no claim has the id {known.id!r}: remove the line, or correct the id"
        for known in listed
        if known.id not in there
    ] + [
        f"{known.place}: {known.id} expired on {known.expires}: fix the claim, or give a later date"
        for known in listed
        if known.id in there and known.has_expired(today)
    ]
