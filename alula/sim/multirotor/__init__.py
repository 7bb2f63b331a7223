"""The multirotor simulator: one model, compiled kernels, and their gradients."""
