"""The container image and the Debian packages: builds and tests."""
