"""Programs that run inside the lab's hosts; each is started with ``python -m lab.services.NAME``."""
