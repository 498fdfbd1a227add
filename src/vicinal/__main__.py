"""``python -m vicinal`` is ``vicinal-train``."""

from vicinal.cli.train import command

if __name__ == "__main__":
    command()
