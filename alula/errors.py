"""The one error a user of alula is meant to see."""


class AlulaError(ValueError):
    """Bad input, said in one line: what was wrong, the value, and what is allowed.

    The command line prints the message without a traceback and exits with code 2.
    """
