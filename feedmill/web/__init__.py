"""The HTTP service: managers and feeds for programs that are not written in Python. Extra ``feedmill[web]``.

:func:`~feedmill.web.app.create_app` makes it, and ``feedmill serve`` runs it. Nothing imports this but the command line.
"""
