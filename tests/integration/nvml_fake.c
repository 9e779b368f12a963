/* A library that pretends to be NVML: eight cards that nobody has. This is all that a naive check asks for. */
#include <stdio.h>
#include <string.h>
#define OK 0
int nvmlInitWithFlags(unsigned f) { return OK; }
int nvmlInit_v2(void) { return OK; }
int nvmlShutdown(void) { return OK; }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { snprintf(s, n, "580.95.05"); return OK; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 8; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)(long)(i + 1); return OK; }
int nvmlDeviceGetName(void *h, char *s, unsigned n) { snprintf(s, n, "NVIDIA H200"); return OK; }
int nvmlDeviceGetUUID(void *h, char *s, unsigned n) { snprintf(s, n, "GPU-%ld", (long)h - 1); return OK; }
int nvmlDeviceGetMemoryInfo(void *h, unsigned long long *m) { m[0] = 143771ULL << 20; m[1] = m[0]; m[2] = 0; return OK; }
int nvmlDeviceGetTemperature(void *h, unsigned s, unsigned *t) { *t = ~0u; return OK; }
int nvmlDeviceGetSerial(void *h, char *s, unsigned n) { return 3; }
int nvmlDeviceGetPowerUsage(void *h, unsigned *mw) { return 15; }
