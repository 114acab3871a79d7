"""Atomic writes of files."""

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import IO


def check_writable(path: Path) -> None:
    """Raise OSError if `write_whole` could not write the file. Call it before a run, so that no results are lost."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    # os.access cannot check a missing file or a name that is too long. stat raises the error.
    with contextlib.suppress(FileNotFoundError):
        path.stat()
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if not is_special(path):
        # The rights of a folder are not enough. Only a trial shows that a file system is read-only or full.
        with _part(path.resolve()) as part:
            Path(part.name).unlink()


def is_special(path: Path) -> bool:
    """Return whether the path is a device, a pipe or a socket, such as /dev/stdout.

    A file in its place would cut off its readers.
    """
    return path.exists() and not path.is_file()


def write_whole(path: Path, text: str) -> None:
    """Write a file atomically. A reader sees the old file or the whole new one, even if the write is interrupted.

    If the path is a device or a pipe, the text is written into it. If it is a link, it stays a link.
    """
    if is_special(path):
        path.write_text(text, encoding="utf-8")
        return
    path = path.resolve()
    with _part(path) as part:
        try:
            part.write(text)
            part.flush()
            os.fsync(part.fileno())
            # Only the owner can read a temporary file. This one gets the permissions of any other file.
            mask = os.umask(0)
            os.umask(mask)
            Path(part.name).chmod(0o666 & ~mask)
            Path(part.name).replace(path)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def _part(path: Path) -> IO[str]:
    """Open a temporary file next to the path. Its name starts with part of the path's name, to leave room for the suffix."""
    return tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=path.name[:32], suffix=".part", delete=False, encoding="utf-8"
    )
