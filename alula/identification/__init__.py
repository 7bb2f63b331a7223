"""From flight logs to robot parameters."""
