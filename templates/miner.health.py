"""Health of a miner, asked inside its container: its API answers and is the miner's (upstream has no health route)."""

import json
import sys
import urllib.request

with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/openapi.json", timeout=8) as answer:
    title = json.load(answer)["info"]["title"]
if title != "compute-subnet-miner":
    sys.exit(f"port {sys.argv[1]} is served by {title}")
