"""The layers that every call passes through, a coroutine function each. stack.py lists them in reading order."""
