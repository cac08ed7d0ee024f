"""What AWS defines and needs no network to know: event shapes, names, errors, signatures. Pure: no I/O, no clock, no logging."""
