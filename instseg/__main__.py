"""Where the `instseg` command begins, which is also `python -m instseg`."""

import sys


def main() -> None:
    """Run the command line; what it imports is imported here, so that Ctrl-C in the meantime ends it as later on."""
    try:
        from instseg.cli import main as run

        run()
    except KeyboardInterrupt:
        # As shells and Click have it.
        sys.exit(130)


if __name__ == "__main__":
    main()
