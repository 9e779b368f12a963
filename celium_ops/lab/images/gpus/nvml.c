/* A stand-in for NVML in the lab: two simulated cards, whose names say so. What real ones have and these have not is
 * missing here, as in an old driver. The cards' UUIDs follow from the host's name, so that no two hosts have the same. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define CARDS 2
#define OK 0
#define NOT_FOUND 6
#define MIB (1ULL << 20)

typedef struct { char busIdLegacy[16]; unsigned domain, bus, device, pciDeviceId, pciSubSystemId; char busId[32]; } Pci;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;

static unsigned host(void)
{
    char name[256] = "";
    unsigned hash = 2166136261u;
    gethostname(name, sizeof name - 1);
    for (char *c = name; *c; c++) hash = (hash ^ (unsigned char)*c) * 16777619u;
    return hash;
}

int nvmlInit_v2(void) { return OK; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == NOT_FOUND ? "Not Found" : "Simulated error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "0.0-simulated"); return OK; }
int nvmlSystemGetNVMLVersion(char *text, unsigned size) { snprintf(text, size, "0.0-simulated"); return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = CARDS; return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **card)
{
    *card = (void *)(unsigned long)(index + 1);
    return index < CARDS ? OK : NOT_FOUND;
}

int nvmlDeviceGetName(void *card, char *text, unsigned size)
{
    (void)card;
    snprintf(text, size, "Simulated GPU");
    return OK;
}

int nvmlDeviceGetUUID(void *card, char *text, unsigned size)
{
    snprintf(text, size, "GPU-51510000-0000-0000-0000-%08x%04lx", host(), (unsigned long)card);
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *card, Memory *memory)
{
    (void)card;
    *memory = (Memory){64 * MIB, 64 * MIB, 0};
    return OK;
}

int nvmlDeviceGetUtilizationRates(void *card, Utilization *rates)
{
    (void)card;
    *rates = (Utilization){0, 0};
    return OK;
}

int nvmlDeviceGetTemperature(void *card, unsigned sensor, unsigned *celsius)
{
    (void)card, (void)sensor;
    *celsius = 40;
    return OK;
}

int nvmlDeviceGetPciInfo_v3(void *card, Pci *pci)
{
    memset(pci, 0, sizeof *pci);
    snprintf(pci->busId, sizeof pci->busId, "00000000:%02lX:00.0", (unsigned long)card);
    return OK;
}
