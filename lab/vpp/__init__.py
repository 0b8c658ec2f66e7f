"""VPP routers: one instance per node, configured through the binary API."""
