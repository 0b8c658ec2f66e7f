"""Compiles, loads, attaches and talks to the BPF programs; knows no controller."""
