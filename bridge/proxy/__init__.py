"""The layers between a call and its target, each a closure over the next; app.py lists them in reading order."""
