"""Routers made of the kernel's seg6local: they need nothing installed."""
