"""Rotor lag between the policy's throttle and MuJoCo's thrust, solved exactly."""

import numpy as np


class RotorLag:
    """First-order lag of the rotors of N vehicles, K physics steps a control period.

    With the throttle u held, the speed fraction s obeys ds/dt = (u - s) / lag and does not cross u, so over a
    control period one of the two lags applies and

    ::

        s(t) = u + (s_0 - u) exp(-t / lag)
    """

    def __init__(self, n_envs: int, steps: int, timestep: float) -> None:
        self._time = timestep * np.arange(steps + 1)
        self._timestep = timestep
        # up and down, for each vehicle: exp(-t_k / lag) (K + 1) and the means over one step
        self._decay = np.zeros((2, n_envs, steps + 1))
        self._mean = np.zeros((2, n_envs))
        self._mean_square = np.zeros((2, n_envs))

    def set_lags(self, rows: np.ndarray, lag_up: np.ndarray, lag_down: np.ndarray) -> None:
        """Set the lags [s] of the vehicles at index `rows`."""
        for k, lag in enumerate((lag_up, lag_down)):
            # 1/h int_0^h exp(-t/lag) dt, and of its square
            ratio = self._timestep / lag
            self._decay[k, rows] = np.exp(-self._time / lag[:, None])
            self._mean[k, rows] = -np.expm1(-ratio) / ratio
            self._mean_square[k, rows] = -np.expm1(-2.0 * ratio) / (2.0 * ratio)

    def respond(
        self, start: np.ndarray, throttle: np.ndarray, curve: tuple[float, float, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rotor speeds and mean thrusts over one control period.

        Args:
            start: speed fraction now [-] (N, R).
            throttle: held throttle [-] (N, R).
            curve: c0, c1, c2 of the thrust curve [N].

        Returns:
            Speed fractions at the ends of the steps (N, K + 1, R), the first being `start`, and the thrust
            averaged over each step [N] (N, K, R), which has the thrust's exact impulse.
        """
        down = (throttle < start)[:, None, :]
        up_decay, down_decay = self._decay[:, :, :, None]
        gap = (start - throttle)[:, None, :] * np.where(down, down_decay, up_decay)
        u = throttle[:, None, :]
        m1 = np.where(down, self._mean[1][:, None, None], self._mean[0][:, None, None])
        m2 = np.where(
            down, self._mean_square[1][:, None, None], self._mean_square[0][:, None, None]
        )
        c0, c1, c2 = curve
        g = gap[:, :-1]
        # mean of c0 + c1 s + c2 s^2 with s = u + g exp(-t/lag)
        thrust = c0 + c1 * (u + g * m1) + c2 * (u * u + g * (2.0 * u * m1 + g * m2))
        return u + gap, thrust
