"""The policy file on a robot: runner, safety and classical controllers in plain Python; ROS 2 only in the nodes."""
