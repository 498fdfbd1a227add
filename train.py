"""Train, sweep and log: ``python train.py --help`` says how."""

from vicinal.cli.train import command

# Completion by the shell fish works only for files with these words in them: @hydra.main
if __name__ == "__main__":
    command()
