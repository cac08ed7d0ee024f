"""The error that ends the making of a package. Nothing is left behind then, and a former package stays as it was."""

from __future__ import annotations


class PackagingFailed(Exception):
    """The text says what happened, where, and what to do next. It may have several lines."""
