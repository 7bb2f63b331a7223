"""The arithmetic functions of the exported C, over the numbers they are for."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from runpy import run_path

import pytest

from alula.firmware_export.c_export import export_c
from alula.policies.onnx_file import write_policy

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc to compile the export")
example = run_path(str(Path(__file__).parents[1] / "policies" / "example.py"))


def exported(tmp_path, network, contract):
    write_policy(tmp_path / "policy.onnx", network, contract)
    return export_c(tmp_path / "policy.onnx", tmp_path / "c").folder


def test_reciprocal_root(tmp_path):
    """Within 2.5 units in the last place: every mantissa at both parities of the exponent, and up to 2^126."""
    folder = exported(tmp_path, *example["make_policy"](hidden=(4,)))
    (folder / "root.c").write_text(
        """
        #include "policy.c"
        #include <math.h>
        #include <stdio.h>
        static double worst = 0.0;
        static void check(uint32_t bits)
        {
            float x, mine;
            double right, unit;
            int exponent;
            memcpy(&x, &bits, sizeof x);
            mine = reciprocal_root(x);
            right = 1.0 / sqrt((double)x);
            (void)frexp(right, &exponent);
            unit = ldexp(1.0, exponent - 24); /* distance of floats in [2^(e-1), 2^e) */
            if (fabs(((double)mine - right) / unit) > worst) {
                worst = fabs(((double)mine - right) / unit);
            }
        }
        int main(void)
        {
            uint32_t bits;
            for (bits = 0x3f800000u; bits < 0x40800000u; bits++) check(bits); /* [1, 4) */
            for (bits = 0x3f800000u; bits < LIMIT; bits += 251u) check(bits);
            check(LIMIT);
            printf("%g\\n", worst);
            return 0;
        }
        """
    )
    # With -ffast-math subnormal numbers are zero, and y^2 is one near 2^126; sound networks stay below 2^120.
    for flags in (
        ["-O2", "-DLIMIT=0x7e800000u"],
        ["-O2", "-march=native", "-DLIMIT=0x7e800000u"],
        ["-O2", "-march=native", "-ffast-math", "-DLIMIT=0x7b800000u"],
    ):
        command = ["gcc", "-std=c99", *flags, "root.c", "-o", "root", "-lm"]
        subprocess.run(command, cwd=folder, check=True)
        told = subprocess.run([folder / "root"], check=True, capture_output=True, text=True)
        print(told.stdout)
        assert float(told.stdout) <= 2.5


def test_exponential_of_the_gru(tmp_path):
    """Relative error over [-87, 87], and NaN stays NaN: a damaged state must not look sound."""
    folder = exported(tmp_path, *example["make_gru_policy"]())
    (folder / "exp.c").write_text(
        """
        #include "policy.c"
        #include <math.h>
        #include <stdio.h>
        static double worst = 0.0;
        int main(void)
        {
            uint32_t bits;
            float x;
            for (bits = 0u; bits <= 0x42ae0000u; bits += 37u) { /* 87 */
                int sign;
                memcpy(&x, &bits, sizeof x);
                for (sign = 0; sign < 2; sign++, x = -x) {
                    const double right = exp((double)x), error = fabs((double)exponential(x) - right) / right;
                    worst = error > worst ? error : worst;
                }
            }
            bits = 0x7fc00000u;
            memcpy(&x, &bits, sizeof x);
            x = exponential(x);
            memcpy(&bits, &x, sizeof x);
            printf("%g %d %d %d\\n", worst, (bits & 0x7fffffffu) > 0x7f800000u,
                   exponential(HUGE_VALF) == exponential(87.0f), exponential(-1e30f) == exponential(-87.0f));
            return 0;
        }
        """
    )
    command = ["gcc", "-std=c99", "-O2", "exp.c", "-o", "exp", "-lm"]
    command += ["-fsanitize=undefined,float-cast-overflow", "-fno-sanitize-recover=all"]
    subprocess.run(command, cwd=folder, check=True)
    told = subprocess.run([folder / "exp"], check=True, capture_output=True, text=True)
    worst, *rest = told.stdout.split()
    assert float(worst) <= 3e-7
    assert rest == ["1", "1", "1"]


def test_commands_stay_between_their_limits(tmp_path):
    """For every action, at the ends exactly; ranges of all kinds, a reversed one too."""
    network, contract = example["make_policy"](hidden=(4,))
    ranges = [(0.0, 1.0), (0.1, 0.9), (-3.7, 11.3), (0.95, 0.05)]
    action = tuple(
        replace(a, low=low, high=high)
        for a, (low, high) in zip(contract.action, ranges, strict=True)
    )
    folder = exported(tmp_path, network, replace(contract, action=action))
    (folder / "command.c").write_text(
        """
        #include "policy.c"
        #include <stdio.h>
        static uint32_t outside = 0u;
        static void check(uint32_t bits, float end)
        {
            float action[4], command[4];
            uint32_t i;
            for (i = 0; i < 4; i++) {
                memcpy(&action[i], &bits, sizeof bits);
            }
            policy_command(action, command);
            for (i = 0; i < 4; i++) {
                const int up = ACTION_LOW[i] < ACTION_HIGH[i];
                const float low = up ? ACTION_LOW[i] : ACTION_HIGH[i], high = up ? ACTION_HIGH[i] : ACTION_LOW[i];
                outside += !(command[i] >= low && command[i] <= high);
                outside += action[i] == end && command[i] != (end > 0.0f ? ACTION_HIGH[i] : ACTION_LOW[i]);
            }
        }
        int main(void)
        {
            uint32_t bits;
            for (bits = 0u; bits <= 0x3f800000u; bits += bits < 0x3f000000u ? 9973u : 1u) {
                check(bits, 1.0f);
                check(bits | 0x80000000u, -1.0f);
            }
            return outside != 0u;
        }
        """
    )
    for flags in (["-O2"], ["-O2", "-march=native"]):
        command = ["gcc", "-std=c99", *flags, "command.c", "-o", "command"]
        subprocess.run(command, cwd=folder, check=True)
        assert subprocess.run([folder / "command"]).returncode == 0
