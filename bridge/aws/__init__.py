"""Formats that AWS defines: event shapes, names, errors, signatures. The package is pure: no I/O, no clock, no
logging.
"""
