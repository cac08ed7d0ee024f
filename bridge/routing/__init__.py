"""Routing: the keys of `services` and a call's path in, the entry that matches most specifically out."""
