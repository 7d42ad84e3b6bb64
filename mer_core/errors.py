"""The one exception for mistakes of the user's."""


class UserError(Exception):
    """A mistake of the user's, told in one sentence: the value, what was expected, and what to do.

    Command lines print the message alone and exit with code 2; pages show it in place of a figure. Every other
    exception is a failure of ours and keeps its traceback.
    """
