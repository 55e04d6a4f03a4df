"""``python -m insitu``: the command line."""

from insitu.cli import main

if __name__ == "__main__":
    main()
