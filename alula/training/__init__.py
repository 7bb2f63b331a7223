"""Learners and the run around them."""
