"""Plays a follow graph and a list of events through the real system, and checks every timeline."""
