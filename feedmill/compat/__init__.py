"""Names of other libraries, for apps that are ported from them; beside manager, which inherits some."""
