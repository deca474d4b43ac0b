"""The one exception that means: the user's input is wrong, and here is what would be right."""


class UserError(Exception):
    """Bad input (a config, file or value). The command lines print it and exit with 2."""
