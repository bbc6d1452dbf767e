"""``python -m mbsearch``: the same as the command ``mbsearch``."""

from mbsearch.cli import main

if __name__ == "__main__":
    main()
