#!/bin/bash
# torch.set_num_threads in a new thread is forgotten.  The number of threads belongs to the thread that sets it, and is
# also the default of threads that use PyTorch for the first time later.  A thread that sets its number before it uses
# PyTorch otherwise has not taken the default yet: it takes it at its first use, over its own setting, and so gets what
# another thread has set meanwhile.  A call of torch.get_num_threads before is such a use, and then the setting stays.
#
# Guess before: a number that a thread sets is its own from then on, or one number holds for the whole process.
# Seen with torch 2.13.0 (CPU) on Linux: a thread sets 3, the main thread sets 2, the first thread computes with 2; with
# one torch.get_num_threads before, with 3.
# Exits 0 while that holds.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
import threading

import torch

torch.set_num_threads(2)


def number_of_a_thread(used_before):
    """The number of a thread that sets 3, after the main thread has set 2."""
    is_set, go, found = threading.Event(), threading.Event(), []

    def work():
        if used_before:
            torch.get_num_threads()
        torch.set_num_threads(3)
        is_set.set()
        go.wait()
        torch.ones(1000, 1000).sum()
        found.append(torch.get_num_threads())

    thread = threading.Thread(target=work)
    thread.start()
    is_set.wait()
    torch.set_num_threads(2)
    go.set()
    thread.join()
    return found[0]


found = number_of_a_thread(used_before=False), number_of_a_thread(used_before=True)
print(f"set 3 in a new thread: {found[0]}; after one torch.get_num_threads there: {found[1]}")
sys.exit(found != (2, 3))
PYTHON
