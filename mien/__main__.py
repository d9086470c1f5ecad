"""`python -m mien`, the same as the command `mien`."""

from mien.command import main

if __name__ == "__main__":
    main()
