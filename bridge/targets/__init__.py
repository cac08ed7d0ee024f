"""Targets: what a call is made into, and its reply into events. Codec and carrier meet here."""
