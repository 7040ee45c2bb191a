"""For tests of what is built on Feedmill: the contract of a storage backend.

It needs pytest; nothing else in Feedmill imports it.
"""
