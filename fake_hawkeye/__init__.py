"""A mock of the HawkEye controller: the real protocol, with paths from a table or computed by its rules."""
