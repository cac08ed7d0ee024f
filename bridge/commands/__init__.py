"""The commands, one page each: arguments in, an exit code out."""
