"""What users install: the container image and the Debian packages, built and tried."""
