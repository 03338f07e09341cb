// libnvrtc through ../bin/nvcc, found next to this library.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <string>

#define API extern "C" __attribute__((visibility("default"))) int

enum { SUCCESS = 0, OUT_OF_MEMORY = 1, COMPILATION = 6 };

struct Program {
    std::string source, ptx, log;
};

static std::string contents(const std::string &path) {
    std::string text;
    if (FILE *file = fopen(path.c_str(), "r")) {
        char part[4096];
        for (size_t got; (got = fread(part, 1, sizeof part, file)) > 0;) text.append(part, got);
        fclose(file);
    }
    return text;
}

API nvrtcCreateProgram(void **program, const char *source, const char *, int, const char *const *,
                       const char *const *) {
    *program = new Program{source, "", ""};
    return SUCCESS;
}
API nvrtcDestroyProgram(void **program) {
    delete (Program *)*program;
    *program = nullptr;
    return SUCCESS;
}

API nvrtcCompileProgram(void *handle, int count, const char *const *options) {
    Program *program = (Program *)handle;
    Dl_info here;
    if (!dladdr((void *)&nvrtcCompileProgram, &here)) return COMPILATION;
    const std::string library = here.dli_fname;
    const std::string nvcc = library.substr(0, library.rfind('/')) + "/../bin/nvcc";
    const char *tmp = getenv("TMPDIR");
    std::string folder = std::string(tmp && *tmp ? tmp : "/tmp") + "/emu_nvrtc_XXXXXX";
    if (!mkdtemp(&folder[0])) return OUT_OF_MEMORY;
    FILE *file = fopen((folder + "/k.cu").c_str(), "w");
    if (!file) return OUT_OF_MEMORY;
    fwrite(program->source.data(), 1, program->source.size(), file);
    fclose(file);
    std::string command = "env -u LD_PRELOAD '" + nvcc + "' --ptx -o " + folder + "/k.ptx";
    for (int i = 0; i < count; i++) command += " '" + std::string(options[i]) + "'";
    const int failed = system((command + " " + folder + "/k.cu 2> " + folder + "/log").c_str());
    program->log = contents(folder + "/log");
    program->ptx = contents(folder + "/k.ptx");
    for (const char *name : {"/k.cu", "/k.ptx", "/log", ""}) remove((folder + name).c_str());
    return failed ? COMPILATION : SUCCESS;
}

API nvrtcGetPTXSize(void *program, size_t *size) {
    *size = ((Program *)program)->ptx.size() + 1;
    return SUCCESS;
}
API nvrtcGetPTX(void *program, char *to) {
    strcpy(to, ((Program *)program)->ptx.c_str());
    return SUCCESS;
}
API nvrtcGetProgramLogSize(void *program, size_t *size) {
    *size = ((Program *)program)->log.size() + 1;
    return SUCCESS;
}
API nvrtcGetProgramLog(void *program, char *to) {
    strcpy(to, ((Program *)program)->log.c_str());
    return SUCCESS;
}
API nvrtcVersion(int *major, int *minor) {
    *major = 13;
    *minor = 0;
    return SUCCESS;
}
API nvrtcGetErrorString(int) { return SUCCESS; }
