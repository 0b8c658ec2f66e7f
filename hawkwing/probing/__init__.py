"""Probes that travel a segment list and come back: `hawkwing ping`, `trace` and `paths --measure`."""
