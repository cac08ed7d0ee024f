"""Formats that AWS defines: event shapes, names, errors, signatures. Pure: no I/O, no clock, no logging."""
