"""The connection to HawkEye: messages and stream."""
