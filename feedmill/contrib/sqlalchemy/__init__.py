"""The outbox of an app that uses SQLAlchemy 2, with or without asyncio.

Make one :class:`Outbox` beside the engine, create its tables with ``metadata.create_all`` or a migration, and call managers
inside ``with outbox.bind(session):``.
"""

from feedmill.contrib.sqlalchemy.outbox import Outbox

__all__ = ["Outbox"]
