"""Train, sweep and log: ``python train.py --help`` says how."""

from vicinal.main import main

if __name__ == "__main__":
    main()
