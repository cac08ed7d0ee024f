"""The error that ends a command with one clear line."""

from __future__ import annotations


class CommandFailed(Exception):
    """The text is all that the user sees. `exit_code`: 1 failed, 2 wrong usage or configuration."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
