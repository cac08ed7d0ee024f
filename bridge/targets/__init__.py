"""Targets turn a call into a request to the function, and the reply into response events. Each joins a codec and a
carrier.
"""
