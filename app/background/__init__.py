"""What the front end does without a request, in a process of its own: recovery, the sweeper, jobs not taken in time."""
