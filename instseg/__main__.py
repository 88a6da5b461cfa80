"""`python -m instseg` is the `instseg` command."""

from instseg.cli import main

if __name__ == "__main__":
    main()
