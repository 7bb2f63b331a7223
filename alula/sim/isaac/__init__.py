"""Arms in Isaac Lab and Isaac Gym, each in the interpreter that has it."""
