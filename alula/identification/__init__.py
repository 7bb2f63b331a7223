"""From a flight log to a robot file: read, estimate, say what the flight does not show."""
