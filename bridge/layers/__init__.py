"""The layers that every call passes through. Each is a coroutine function. stack.py lists them in reading order."""
