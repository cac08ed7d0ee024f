"""Values that no message may show: what the environment put into the configuration, such as keys in headers.

Servers quote what they were sent, and messages quote servers. In goes a text, out comes the same with each value
replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

MARK = "[hidden]"
SHORTEST = 4
"""Characters of a value from which on it is looked for: shorter ones, such as `dev` or `80`, stand in many words."""

_NO_SECRETS = frozenset(("true", "false", "null", "none"))


class Redactor:
    """Replaces values wherever they stand, as they are and percent-encoded; and the beginning of one where a text was
    cut off.
    """

    def __init__(self, values: Iterable[str]) -> None:
        kept = {value for value in values if len(value) >= SHORTEST and value.lower() not in _NO_SECRETS}
        forms = {form for value in kept for form in (value, quote(value, safe=""), quote(value))}
        # The longest first: one value may begin with another.
        self._forms = sorted(forms, key=lambda form: (-len(form), form))
        pattern = "|".join(map(re.escape, self._forms))
        self._find = re.compile(pattern) if self._forms else None

    def __call__(self, text: str) -> str:
        if self._find is None:
            return text
        return self._without_cut_value(self._find.sub(MARK, text))

    def _without_cut_value(self, text: str) -> str:
        """Texts of others are cut at a limit, perhaps within a value."""
        end = text.rstrip("….")
        for form in self._forms:
            for size in range(min(len(form) - 1, len(end)), SHORTEST - 1, -1):
                if end.endswith(form[:size]):
                    return end[:-size] + MARK
        return text
