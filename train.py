"""Train, sweep and log: ``python train.py --help`` says how."""

from vicinal.cli.train import command

if __name__ == "__main__":
    command()
