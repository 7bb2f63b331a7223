"""Policies: the network, its contract with the robot, and the one ONNX file that holds both."""
