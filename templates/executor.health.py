"""Health of an executor, asked inside its container: a well-formed request with a signature of zeros.

401 says that it is alive and the miner's hotkey is an address; 500 that the hotkey is unusable, while the API looks
alive to every simpler question (upstream of 2025-08 and 2025-12, run 2026-11-20).
"""

import json
import sys
import urllib.error
import urllib.request

body = {"public_key": "celium-ops", "data_to_sign": "celium-ops", "signature": "0x" + "0" * 128}
request = urllib.request.Request(
    f"http://127.0.0.1:{sys.argv[1]}/upload_ssh_key",
    data=json.dumps(body).encode(),
    headers={"Content-Type": "application/json"},
)
try:
    urllib.request.urlopen(request, timeout=8)  # noqa: S310 - the address is ours
    sys.exit("the executor accepted a signature of zeros")
except urllib.error.HTTPError as error:
    if error.code == 500:
        sys.exit("500: MINER_HOTKEY_SS58_ADDRESS is no usable hotkey")
    if error.code != 401:
        sys.exit(f"expected 401, got {error.code}")
