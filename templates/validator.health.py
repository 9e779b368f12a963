"""Health of a validator, asked inside its container: its API answers and is the validator's.

Upstream has no health route, but its API starts only after Redis and Postgres have answered (src/validator.py and
src/core/utils.py, 2025-08 and 2025-12). It answers without a chain too: that stands in its log only.
"""

import json
import sys
import urllib.request

with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/openapi.json", timeout=8) as answer:
    title = json.load(answer)["info"]["title"]
if title != "compute-subnet-validator":
    sys.exit(f"port {sys.argv[1]} is served by {title}")
