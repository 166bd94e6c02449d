"""`python -m harkback`: as the command, for what starts modules, such as `torchrun -m`."""

from harkback.cli import main

if __name__ == "__main__":
    main()
