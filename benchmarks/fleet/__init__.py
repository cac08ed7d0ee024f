"""A fleet of bridges in simulated time: `python -m benchmarks.fleet --out docs` draws the plots of docs/scaling.md.

A discrete-event simulation. Clients send calls as a Poisson process over channels. A channel is one connection, and so
one process. A process has one core. Its queue and the limits that it learns are the bridge's own code
(bridge/queueing). Lambda starts instances of a function as fast as its quota allows. Nothing here sends a byte.

A million calls a second are too many to simulate one by one. In the plots of a whole fleet one call stands for
`scale` of them: it costs `scale` times the CPU, and there are `scale` times fewer. The load of each process is the
same. Its waits are not, so no plot shows them.
"""
