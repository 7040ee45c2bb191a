"""Faults on purpose: real servers, real workers, and a network that can be cut; then every feed is held against a model."""
