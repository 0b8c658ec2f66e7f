"""A stand-in for the HawkEye controller: the real protocol, answers from a table that tests can change."""
