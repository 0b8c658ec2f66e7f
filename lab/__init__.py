"""The development network: topology, routes, and the programs that run in its nodes."""
