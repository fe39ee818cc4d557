"""The one form of error for what a user can cause."""


class InputError(ValueError):
    """Something in a user's input is wrong.

    The message says where, what was found, what was expected and what to do:
    ``input.fasta:3: chain B: 'Z' is not an amino-acid code; expected one of ACDEF...; write ...``.
    """

    def __init__(self, where: str, found: str, *, expected: str = "", todo: str = ""):
        self.where, self.found, self.expected, self.todo = where, found, expected, todo
        message = f"{where}: {found}"
        if expected:
            message += f"; expected {expected}"
        if todo:
            message += f"; {todo}"
        super().__init__(message)
