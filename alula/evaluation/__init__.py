"""Statistics, flights in a second simulator, and the report."""
