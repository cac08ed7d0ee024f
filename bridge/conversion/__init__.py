"""Converts messages to JSON and back without stopping other calls. Cheap conversions run at once, all others in
separate processes.
"""
