"""HawkWing: SRv6 paths for a host's own packets, per application and intent."""

__version__ = "0.1.0"
