"""Who is told how far the work is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Shows what is being done."""

    def begin(self, what: str) -> None:
        """Name the step that begins, such as `packing`. The one before it has ended."""

    def advance(self, done: int, whole: int) -> None:
        """Tell how many bytes of the step are done."""
