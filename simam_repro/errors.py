"""The exceptions that speak to the user: the command lines print them without a traceback."""


class UserError(Exception):
    """Bad input (a config, file or value), and what would be right. Exit code 2."""


class RunError(Exception):
    """The input was right, and the run failed all the same (a loss that is not finite). Exit code 1."""


class LostRank(RunError):
    """Another process of the run has died; why is for that one to tell."""
