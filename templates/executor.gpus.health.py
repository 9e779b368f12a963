"""The second half of an executor's health, where it has GPUs: NVML counts them inside the container.

A container loses its GPUs while the host keeps them: when systemd reloads, or when the driver on the host changes. Then
every check of a validator fails, while the API still answers. NVML is asked itself, since nvidia-smi may exit with 0.
"""

import ctypes
import sys

try:
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
except OSError as error:
    sys.exit(f"NVML: {error}")
nvml.nvmlErrorString.restype = ctypes.c_char_p
count = ctypes.c_uint(0)
code = nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
if code:
    sys.exit(f"NVML: {nvml.nvmlErrorString(code).decode(errors='replace')}")
if not count.value:
    sys.exit("NVML: it counts no GPU")
