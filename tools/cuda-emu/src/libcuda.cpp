// libcuda.so.1 on the CPU: the driver functions that cudarc 0.9, dfdx 0.13 and this project call.
//
// Device pointers are host pointers. Every copy and every memset is checked against the live allocations,
// and fresh and freed memory is filled with 0xFF, which is NaN in every float format. Everything runs at
// once, on the calling thread: streams and events are names only.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <string>

#define API extern "C" __attribute__((visibility("default"))) int

typedef unsigned long long Ptr;

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_PTX = 218,
    FILE_NOT_FOUND = 301,
    NOT_FOUND = 500,
};

static const size_t DEFAULT_MEMORY = (size_t)8 << 30;
// Dynamic shared memory of a block: by itself, and where the function's attribute allows it.
static const unsigned PLAIN_SHARED = 48 * 1024, MOST_SHARED = 227 * 1024;
static const unsigned MOST_THREADS = 1024;

static std::recursive_mutex mutex;
typedef std::lock_guard<std::recursive_mutex> Lock;

// ---- counters, written when the process ends

struct Copies {
    unsigned long count, bytes;
};

static std::map<Ptr, size_t> live; // base address -> bytes
static size_t bytes_now, bytes_peak;
static unsigned long allocations, frees, launches;
static unsigned long long pool_threshold; // bytes that the memory pool keeps
static Copies host_to_device, device_to_host, device_to_device;

// EMU_STATS=1 writes one line of JSON to stderr at the end, another value names a file to append it to.
struct Report {
    ~Report() {
        const char *to = getenv("EMU_STATS");
        if (!to || !*to) return;
        FILE *out = strcmp(to, "1") ? fopen(to, "a") : stderr;
        if (!out) return;
        fprintf(out,
                "{\"launches\":%lu,\"h2d\":%lu,\"h2d_bytes\":%lu,\"d2h\":%lu,\"d2h_bytes\":%lu,\"d2d\":%lu,"
                "\"d2d_bytes\":%lu,\"alloc\":%lu,\"free\":%lu,\"leaked\":%zu,\"peak_bytes\":%zu,\"pool_threshold\":%llu}\n",
                launches, host_to_device.count, host_to_device.bytes, device_to_host.count, device_to_host.bytes,
                device_to_device.count, device_to_device.bytes, allocations, frees, live.size(), bytes_peak,
                pool_threshold);
        if (out != stderr) fclose(out);
    }
} report;

// ---- memory

static void complain(const char *what, Ptr at, size_t bytes) {
    fprintf(stderr, "cuda_emu: %s: %zu bytes at %llx are not inside one live allocation\n", what, bytes, at);
    if (getenv("EMU_ABORT")) abort();
}

static bool inside(Ptr at, size_t bytes, const char *what) {
    if (!bytes) return true;
    auto after = live.upper_bound(at);
    if (after != live.begin()) {
        --after;
        if (at >= after->first && at + bytes <= after->first + after->second) return true;
    }
    complain(what, at, bytes);
    return false;
}

static int allocate(Ptr *at, size_t bytes) {
    Lock lock(mutex);
    const char *limit = getenv("EMU_MEM");
    if (bytes_now + bytes > (limit ? strtoull(limit, nullptr, 10) : DEFAULT_MEMORY)) return OUT_OF_MEMORY;
    void *memory = nullptr;
    // The exact size, so that AddressSanitizer sees overruns.
    if (posix_memalign(&memory, 256, bytes ? bytes : 1)) return OUT_OF_MEMORY;
    memset(memory, 0xFF, bytes);
    *at = (Ptr)memory;
    live[*at] = bytes;
    bytes_now += bytes;
    if (bytes_now > bytes_peak) bytes_peak = bytes_now;
    allocations++;
    return SUCCESS;
}

static int release(Ptr at) {
    Lock lock(mutex);
    auto found = live.find(at);
    if (found == live.end()) {
        complain("free", at, 0);
        return INVALID_VALUE;
    }
    bytes_now -= found->second;
    memset((void *)at, 0xFF, found->second);
    live.erase(found);
    free((void *)at);
    frees++;
    return SUCCESS;
}

static int copy(Copies &counter, void *to, const void *from, size_t bytes) {
    counter.count++;
    counter.bytes += bytes;
    memmove(to, from, bytes);
    return SUCCESS;
}

API cuMemAlloc_v2(Ptr *at, size_t bytes) { return bytes ? allocate(at, bytes) : INVALID_VALUE; }
API cuMemAllocAsync(Ptr *at, size_t bytes, void *) { return allocate(at, bytes); }
API cuMemFree_v2(Ptr at) { return release(at); }
API cuMemFreeAsync(Ptr at, void *) { return release(at); }

// The default pool. Nothing is kept here; what was asked for is counted.
static void *const POOL = (void *)0x2000;
API cuDeviceGetDefaultMemPool(void **pool, int) {
    *pool = POOL;
    return SUCCESS;
}
API cuMemPoolSetAttribute(void *pool, int attribute, void *value) {
    const int RELEASE_THRESHOLD = 4;
    if (pool != POOL || attribute != RELEASE_THRESHOLD) return INVALID_VALUE;
    pool_threshold = *(unsigned long long *)value;
    return SUCCESS;
}

API cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    *total = DEFAULT_MEMORY;
    *free_bytes = *total - bytes_now;
    return SUCCESS;
}

API cuMemcpyHtoD_v2(Ptr to, const void *from, size_t bytes) {
    Lock lock(mutex);
    return inside(to, bytes, "HtoD") ? copy(host_to_device, (void *)to, from, bytes) : INVALID_VALUE;
}
API cuMemcpyDtoH_v2(void *to, Ptr from, size_t bytes) {
    Lock lock(mutex);
    return inside(from, bytes, "DtoH") ? copy(device_to_host, to, (void *)from, bytes) : INVALID_VALUE;
}
API cuMemcpyDtoD_v2(Ptr to, Ptr from, size_t bytes) {
    Lock lock(mutex);
    if (!inside(from, bytes, "DtoD source") || !inside(to, bytes, "DtoD target")) return INVALID_VALUE;
    return copy(device_to_device, (void *)to, (void *)from, bytes);
}
API cuMemsetD8_v2(Ptr at, unsigned char value, size_t bytes) {
    Lock lock(mutex);
    if (!inside(at, bytes, "memset")) return INVALID_VALUE;
    memset((void *)at, value, bytes);
    return SUCCESS;
}
template <class T> static int fill(Ptr at, T value, size_t count) {
    Lock lock(mutex);
    if (at % sizeof(T) || !inside(at, count * sizeof(T), "memset")) return INVALID_VALUE;
    for (size_t i = 0; i < count; i++) ((T *)at)[i] = value;
    return SUCCESS;
}
API cuMemsetD16_v2(Ptr at, unsigned short value, size_t count) { return fill(at, value, count); }
API cuMemsetD32_v2(Ptr at, unsigned value, size_t count) { return fill(at, value, count); }
API cuMemsetD16Async(Ptr at, unsigned short value, size_t count, void *) { return fill(at, value, count); }
API cuMemsetD32Async(Ptr at, unsigned value, size_t count, void *) { return fill(at, value, count); }
API cuMemHostAlloc(void **at, size_t bytes, unsigned) {
    *at = malloc(bytes);
    return *at ? SUCCESS : OUT_OF_MEMORY;
}
API cuMemAllocHost_v2(void **at, size_t bytes) { return cuMemHostAlloc(at, bytes, 0); }
API cuMemFreeHost(void *at) {
    free(at);
    return SUCCESS;
}
API cuMemcpyHtoDAsync_v2(Ptr to, const void *from, size_t bytes, void *) { return cuMemcpyHtoD_v2(to, from, bytes); }
API cuMemcpyDtoHAsync_v2(void *to, Ptr from, size_t bytes, void *) { return cuMemcpyDtoH_v2(to, from, bytes); }
API cuMemcpyDtoDAsync_v2(Ptr to, Ptr from, size_t bytes, void *) { return cuMemcpyDtoD_v2(to, from, bytes); }
API cuMemsetD8Async(Ptr at, unsigned char value, size_t bytes, void *) { return cuMemsetD8_v2(at, value, bytes); }

// For libcublas: whether it may touch these bytes.
extern "C" __attribute__((visibility("default"))) bool emu_inside(const void *at, size_t bytes) {
    Lock lock(mutex);
    return inside((Ptr)at, bytes, "cuBLAS");
}

// ---- the device, its one context, streams and events

// EMU_DEVICES=0: a machine that has the driver and no GPU.
static bool has_device() {
    const char *devices = getenv("EMU_DEVICES");
    return !devices || strcmp(devices, "0");
}
API cuInit(unsigned) { return has_device() ? SUCCESS : NO_DEVICE; }
API cuDeviceGetCount(int *count) {
    *count = has_device();
    return SUCCESS;
}
API cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal ? INVALID_DEVICE : SUCCESS;
}
API cuDeviceGetName(char *name, int size, int) {
    snprintf(name, size, "cuda_emu");
    return SUCCESS;
}
API cuDeviceGetAttribute(int *value, int attribute, int) {
    switch (attribute) {
    case 1: *value = MOST_THREADS; break;
    case 8: *value = PLAIN_SHARED; break;
    case 10: *value = 32; break;   // warp size
    case 16: *value = 132; break;  // multiprocessors
    case 75: *value = 9; break;    // compute capability, major
    case 76: *value = 0; break;    // and minor
    case 81: *value = 228 * 1024; break; // shared memory of a multiprocessor
    case 97: *value = MOST_SHARED; break;
    case 115: *value = 1; break;   // memory pools
    default: *value = 0;
    }
    return SUCCESS;
}
static void *const CONTEXT = (void *)0x1000;
API cuDevicePrimaryCtxRetain(void **context, int) {
    *context = CONTEXT;
    return SUCCESS;
}
API cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API cuCtxSetCurrent(void *) { return SUCCESS; }
API cuCtxGetCurrent(void **context) {
    *context = CONTEXT;
    return SUCCESS;
}
API cuCtxSynchronize() { return SUCCESS; }
API cuDriverGetVersion(int *version) {
    *version = 13000;
    return SUCCESS;
}
API cuDeviceTotalMem_v2(size_t *bytes, int) {
    *bytes = DEFAULT_MEMORY;
    return SUCCESS;
}

// An event is the time at which it was recorded.
typedef std::chrono::steady_clock Clock;
API cuEventCreate(void **event, unsigned) {
    *event = new Clock::time_point();
    return SUCCESS;
}
API cuEventDestroy_v2(void *event) {
    delete (Clock::time_point *)event;
    return SUCCESS;
}
API cuEventRecord(void *event, void *) {
    *(Clock::time_point *)event = Clock::now();
    return SUCCESS;
}
API cuEventElapsedTime(float *milliseconds, void *begin, void *end) {
    const auto passed = *(Clock::time_point *)end - *(Clock::time_point *)begin;
    *milliseconds = std::chrono::duration<float, std::milli>(passed).count();
    return SUCCESS;
}
API cuEventSynchronize(void *) { return SUCCESS; }
API cuEventQuery(void *) { return SUCCESS; }
API cuStreamCreate(void **stream, unsigned) {
    *stream = malloc(1);
    return SUCCESS;
}
API cuStreamDestroy_v2(void *stream) {
    free(stream);
    return SUCCESS;
}
API cuStreamSynchronize(void *) { return SUCCESS; }
API cuStreamWaitEvent(void *, void *, unsigned) { return SUCCESS; }

// ---- modules: "PTX" made by ../bin/nvcc names a shared object in its first line

// EMU_VARIANT holds compiler flags: kernels are compiled anew with them as they are loaded.
static std::string variant_of(const std::string &object) {
    const char *flags = getenv("EMU_VARIANT");
    Dl_info here;
    if (!flags || !*flags || !dladdr((void *)&variant_of, &here)) return object;
    const std::string library = here.dli_fname;
    const std::string nvcc = library.substr(0, library.rfind('/')) + "/../bin/nvcc";
    // What is preloaded is meant for this process, not for a compiler.
    const std::string command = "env -u LD_PRELOAD EMU_CXXFLAGS=\"$EMU_VARIANT\" '" + nvcc + "' --again '" + object + "'";
    FILE *made = popen(command.c_str(), "r");
    char path[4096] = {0};
    if (made && fgets(path, sizeof path, made)) path[strcspn(path, "\n")] = 0;
    if (made) pclose(made);
    return path;
}

API cuModuleLoadData(void **module, const void *image) {
    static const char MARK[] = "//EMU-SO ";
    const char *text = (const char *)image;
    if (strncmp(text, MARK, strlen(MARK))) {
        fprintf(stderr, "cuda_emu: this module was not built by the emulator's nvcc\n");
        return INVALID_PTX;
    }
    text += strlen(MARK);
    const std::string object = variant_of(std::string(text, strcspn(text, "\n")));
    *module = object.empty() ? nullptr : dlopen(object.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (*module) return SUCCESS;
    fprintf(stderr, "cuda_emu: %s\n", object.empty() ? "the kernels do not compile" : dlerror());
    return INVALID_PTX;
}
API cuModuleLoad(void **module, const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) return FILE_NOT_FOUND;
    char head[4096] = {0};
    const size_t got = fread(head, 1, sizeof head - 1, file);
    fclose(file);
    return got ? cuModuleLoadData(module, head) : INVALID_PTX;
}
API cuModuleUnload(void *) { return SUCCESS; }
API cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = dlsym(module, (std::string("emu_launch_") + name).c_str());
    return *function ? SUCCESS : NOT_FOUND;
}

static std::map<void *, unsigned> dynamic_shared; // what a function's attribute allows
static const int MAX_DYNAMIC_SHARED_SIZE_BYTES = 8;

API cuFuncSetAttribute(void *function, int attribute, int value) {
    Lock lock(mutex);
    if (attribute != MAX_DYNAMIC_SHARED_SIZE_BYTES) return SUCCESS;
    if (value < 0 || (unsigned)value > MOST_SHARED) return INVALID_VALUE;
    dynamic_shared[function] = (unsigned)value;
    return SUCCESS;
}

API cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *, void **params, void **) {
    typedef void (*Launch)(void **, const unsigned *, const unsigned *, unsigned);
    Lock lock(mutex);
    launches++;
    const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    const bool empty = !gx || !gy || !gz || !bx || !by || !bz;
    const bool large = (unsigned long)bx * by * bz > MOST_THREADS || bz > 64 || gy > 65535 || gz > 65535;
    if (empty || large || gx > INT32_MAX || shared > MOST_SHARED) return INVALID_VALUE;
    const auto allowed = dynamic_shared.find(function);
    if (shared > (allowed == dynamic_shared.end() ? PLAIN_SHARED : allowed->second)) {
        fprintf(stderr, "cuda_emu: %u bytes of shared memory: cuFuncSetAttribute must allow them\n", shared);
        return INVALID_VALUE;
    }
    ((Launch)function)(params, grid, block, shared);
    return SUCCESS;
}

API cuGetErrorName(int error, const char **name) {
    *name = error == SUCCESS            ? "CUDA_SUCCESS"
            : error == INVALID_VALUE    ? "CUDA_ERROR_INVALID_VALUE"
            : error == NO_DEVICE        ? "CUDA_ERROR_NO_DEVICE"
            : error == OUT_OF_MEMORY    ? "CUDA_ERROR_OUT_OF_MEMORY"
                                        : "CUDA_ERROR (emulated)";
    return SUCCESS;
}
API cuGetErrorString(int error, const char **text) { return cuGetErrorName(error, text); }
