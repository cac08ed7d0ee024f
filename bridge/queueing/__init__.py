"""Calls that wait their turn, and what is learned about how many calls a function takes. Nothing here reads a clock."""
