"""A stand-in for the HawkEye controller: the real protocol, answers from a table or computed by its rules."""
