"""The merge engine: how operations change the stored groups of many feeds at once. Nothing in it is public.

Imports storage, records, aggregators and what lies below; feeds are built on it.
"""
