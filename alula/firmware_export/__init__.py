"""From a policy file to C."""
