"""Feedmill in projects of other frameworks. Nothing here is imported by the core, and each part needs its framework."""
