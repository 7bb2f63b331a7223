"""Tasks: what to observe, what to minimise, when to stop, as plain functions; one file a task."""
