"""`python -m worker`: run | label | train | evaluate | import | bench."""

from worker.commands import main

if __name__ == "__main__":
    main()
