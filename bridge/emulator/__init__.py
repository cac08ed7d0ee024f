"""The embedded local Lambda: AWS's Invoke API on loopback, the Runtime API behind it, and the functions' processes
between.
"""
