"""`python -m enginery` is the `cluster` command."""

from .cli import main

if __name__ == "__main__":
    main()
