#!/bin/bash
# `import openvino` reports itself over the Internet, without a question.  The package depends on openvino-telemetry; its
# module of conversion tools, which `import openvino` loads, sends the event "import" to Google Analytics and keeps an
# identifier of the client in the home folder.  Without openvino_telemetry, or with None in its place in sys.modules, the
# same import uses a stub and sends nothing.
#
# Guess before: a runtime for inference contacts nobody when it is imported; only the conversion commands may report.
# Seen with openvino 2026.4.1 and openvino-telemetry 2025.2.0 on Linux: through a proxy on this machine, one
# "CONNECT www.google-analytics.com:443" and a file ~/intel/openvino_ga_cid; with the stub, neither.
# Exits 0 while that holds.  Nothing leaves the machine: the proxy closes each connection.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 openvino-telemetry==2025.2.0
FOLDER=$folder "$folder/venv/bin/python" - <<'PYTHON'
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

IMPORTS = {
    "plain": "import openvino",
    "with a stub": "import sys; sys.modules['openvino_telemetry'] = None; import openvino",
}
asked = []
listener = socket.create_server(("127.0.0.1", 0))


def answer():
    while True:
        connection, _ = listener.accept()
        asked.append(connection.recv(4096).split(b"\r\n")[0].decode())
        connection.close()


threading.Thread(target=answer, daemon=True).start()
proxy = "http://127.0.0.1:%d" % listener.getsockname()[1]
found = {}
for name, code in IMPORTS.items():
    home = Path(os.environ["FOLDER"], name.replace(" ", "-"))
    home.mkdir()
    asked.clear()
    subprocess.run(
        [sys.executable, "-c", code + "; import time; time.sleep(5)"],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "HTTPS_PROXY": proxy, "https_proxy": proxy},
        check=True,
    )
    files = sorted(str(path.relative_to(home)) for path in home.rglob("*_cid"))
    found[name] = ([line.rsplit(" ", 1)[0] for line in asked], files)
    print(name, *found[name])
assert found["plain"] == (["CONNECT www.google-analytics.com:443"], ["intel/openvino_ga_cid"])
assert found["with a stub"] == ([], [])
PYTHON
