"""Where the `instseg` command begins, which is also `python -m instseg`."""

import sys

# With these, `predict` has no need of a network here.
_WITHOUT_NETWORK = ("-h", "--help", "--workers", "--scheduler")


def main() -> None:
    """Run the command line; what it imports is imported here, so that Ctrl-C in the meantime ends it as later on."""
    try:
        if sys.argv[1:2] == ["predict"] and not any(word.startswith(_WITHOUT_NETWORK) for word in sys.argv):
            from instseg.network.c_library import begin_loading

            begin_loading()
        from instseg.cli import main as run

        run()
    except KeyboardInterrupt:
        # As shells and Click have it.
        sys.exit(130)


if __name__ == "__main__":
    main()
