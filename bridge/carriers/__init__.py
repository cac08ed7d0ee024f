"""Carriers move payloads to functions and back. This package has connections, credentials, and a carrier for each kind
of target.
"""
