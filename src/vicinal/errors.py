"""What a user can put right: errors that are one line and never a traceback."""

from collections.abc import Mapping


class UserError(Exception):
    """A mistake of the user's, or a circumstance they can change; its text is one line that says what to do."""


class ConfigError(UserError):
    """A key of the config has a value that it cannot have.

    The line reads ``key=value: allowed``, as the user would type it on the command line.
    """

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key}={written(value)}: {allowed}")
        self.key = key

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders (parallel launchers): rebuild from the text, not from the three arguments.
        return _rebuild, (self.key, str(self))


def written(value: object) -> str:
    """A value as the command line spells it."""
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(written, value)) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}:{written(each)}" for name, each in value.items()) + "}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:.12g}" if isinstance(value, float) else str(value) or "''"


def _rebuild(key: str, text: str) -> ConfigError:
    error = ConfigError.__new__(ConfigError)
    Exception.__init__(error, text)
    error.key = key
    return error
