/* A stand-in for libnvidia-ml.so.1 with two GPUs: names and types as in NVML's API reference, values that change with
 * each call of nvmlDeviceGetUtilizationRates. The second GPU does not tell its power. With OLD_DRIVER some functions
 * are missing; with FAKE_NVML_INIT in the environment nvmlInit answers that number. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUCCESS 0
#define INVALID_ARGUMENT 2
#define NOT_SUPPORTED 3
#define INSUFFICIENT_SIZE 7
#define NOT_AVAILABLE 0xffffffffffffffffULL

typedef struct { unsigned index, reads; } Device;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Rates;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;

static Device devices[2] = {{0, 0}, {1, 0}};

static int text(char *out, unsigned size, const char *value) {
    if (strlen(value) >= size) return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}

static int init(void) {
    const char *answer = getenv("FAKE_NVML_INIT");
    devices[0].reads = devices[1].reads = 0;
    return answer ? atoi(answer) : SUCCESS;
}

int nvmlInit_v2(void) { return init(); }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return init(); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { (void)code; return "an error of the stand-in"; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { return text(out, size, "570.86.15"); }
int nvmlSystemGetCudaDriverVersion(int *out) { *out = 12080; return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *out) { *out = 2; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **out) {
    if (index > 1) return INVALID_ARGUMENT;
    *out = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetUUID(Device *d, char *out, unsigned size) {
    return text(out, size, d->index ? "GPU-22222222-bbbb" : "GPU-11111111-aaaa");
}

int nvmlDeviceGetName(Device *d, char *out, unsigned size) {
    return text(out, size, d->index ? "NVIDIA Stand-in B" : "NVIDIA Stand-in A");
}

int nvmlDeviceGetMemoryInfo(Device *d, Memory *out) {
    out->total = (d->index ? 24ULL : 80ULL) << 30;
    out->used = (unsigned long long)(d->index + 1) << 30;
    out->free = out->total - out->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(Device *d, Rates *out) {
    out->gpu = 10 * (d->index + 1) + d->reads++;
    out->memory = 99;
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(Device *d, int *major, int *minor) {
    *major = d->index ? 8 : 9;
    *minor = d->index ? 6 : 0;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(Device *d, unsigned *out) {
    *out = 123456;
    return d->index ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(Device *d, unsigned *out) {
    *out = d->index ? 350000 : 700000;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(Device *d, unsigned sensor, unsigned *out) {
    if (sensor != 0) return INVALID_ARGUMENT;
    *out = 40 + d->index;
    return SUCCESS;
}

int nvmlDeviceGetClockInfo(Device *d, unsigned clock, unsigned *out) {
    if (clock > 3) return INVALID_ARGUMENT;
    *out = 1000 * (clock + 1) + d->index; /* 1: streaming multiprocessors, 2: memory */
    return SUCCESS;
}

#ifndef OLD_DRIVER
int nvmlDeviceGetCurrentClocksThrottleReasons(Device *d, unsigned long long *out) {
    *out = d->index ? 0x104 : 0x4;
    return SUCCESS;
}

int nvmlDeviceGetPcieThroughput(Device *d, unsigned counter, unsigned *out) {
    if (counter > 1) return INVALID_ARGUMENT;
    *out = (counter ? 2000 : 1000) + d->index; /* 0: sent, 1: received; KB/s */
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device *d, unsigned *count, Process *out) {
    unsigned room = *count;
    if (d->index) {
        *count = 0;
        return SUCCESS;
    }
    *count = 2;
    if (room < 2 || !out) return INSUFFICIENT_SIZE;
    out[0] = (Process){4242, 1ULL << 20, 0, 0};
    out[1] = (Process){4343, NOT_AVAILABLE, 0, 0};
    return SUCCESS;
}
#endif
