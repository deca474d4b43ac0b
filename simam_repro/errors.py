"""The exceptions that speak to the user: the command lines print them without a traceback."""


def printable(text) -> str:
    r"""`text` with what a terminal would act upon as escapes (\x1b): names of files, classes and keys are anybody's.

    Line ends and tabs stay.
    """
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode()
        for letter in str(text)
    )


class _Told(Exception):
    def __str__(self) -> str:
        return printable(super().__str__())


class UserError(_Told):
    """Bad input (a config, file or value), and what would be right. Exit code 2."""


class RunError(_Told):
    """The input was right, and the run failed all the same (a loss that is not finite). Exit code 1."""


class LostRank(RunError):
    """Another process of the run has died; why is for that one to tell."""
