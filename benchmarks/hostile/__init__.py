"""Attacks, one in each module: what one client can send to harm the others. Only for servers that you run yourself.

Each module has a docstring that says what is sent, `CONFIG` (YAML that the bridge's configuration needs besides, or
None), and `attack(host, port, seconds, tls=None)`, a coroutine function that attacks until the time is over and returns
the bytes it sent. `IS_FOR_ENVOY = False` says that the attack means nothing to Envoy.

The bridge serves benchmarks/bridge.yaml: bench.Plain answers at once, bench.Slow after a second, bench.SizedN with N
bytes. `run.py` plays all attacks and writes docs/hostile.md; tests/crossing/test_hostile.py plays each for a moment.
"""
