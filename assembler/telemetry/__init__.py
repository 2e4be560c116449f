"""HISTORIES: one protocol, a module for each backend."""
