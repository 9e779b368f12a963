"""The lab's simulated chain: a node that the unmodified SDK and its ``btcli`` read over a real websocket.

It serves one subnet from a snapshot, with the real runtime's metadata, and can be told to misbehave. It runs none of
the chain's logic: permits, emission and stake are what the snapshot says. Use it to test what reads a chain, never to
prove what a chain does.
"""
