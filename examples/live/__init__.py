"""The live page: ``make demo-web``, or ``honcho start``. README.md says what is where."""
