"""Hosts, and routers with the kernel's seg6local; nothing needs to be installed."""
