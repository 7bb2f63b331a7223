"""Evidence from a flight that a policy flew: how well, how fast, how safely, and as the simulator said?"""
