"""HawkWing: SRv6 paths on a host's own packets, per application and intent."""

__version__ = "0.1.0"
