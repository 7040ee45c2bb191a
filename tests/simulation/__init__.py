"""A deterministic simulator: many processes in one thread, interleaved at every storage command, with faults, from one seed.

``make simulate ARGS='--seconds 60'`` runs histories; ``python -m tests.simulation --seed 123`` replays one.
"""
