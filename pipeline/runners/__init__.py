"""Thin runners: they supply paths and engines, the graph is the same."""
