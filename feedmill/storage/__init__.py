"""Where timelines and activities live. Every storage does its work in steps; see :mod:`feedmill.storage.operations`."""
