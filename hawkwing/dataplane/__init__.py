"""Compiles, loads and attaches the BPF programs, and accesses their maps; independent of controllers."""
