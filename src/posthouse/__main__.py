"""`python -m posthouse` is the command `posthouse`."""

import sys

if __name__ == "__main__":
    try:
        from posthouse.cli.main import main
    except KeyboardInterrupt:  # so early that nothing is there to be ended
        sys.exit(130)
    main()
