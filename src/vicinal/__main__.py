"""``python -m vicinal`` is ``vicinal-train``."""

from vicinal.main import command

if __name__ == "__main__":
    command()
