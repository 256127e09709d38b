"""`python -m cli`: the same as `billing`, where the entry point is not installed."""

from cli.main import main

if __name__ == "__main__":
    main()
