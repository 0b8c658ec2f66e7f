"""Probes that travel a segment list and come back: `hawkwing ping` and `hawkwing trace`."""
