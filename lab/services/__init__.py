"""Programs that run on the lab's hosts, started with ``python -m lab.services.NAME``."""
