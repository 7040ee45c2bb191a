"""Programs around the library, started from the command line: the demo, the replay of event files, private servers and
workers. The library itself never imports them.
"""
