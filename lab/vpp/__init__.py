"""Routers made of VPP, one instance a node, configured through its binary API."""
