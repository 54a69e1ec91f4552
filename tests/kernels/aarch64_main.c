/* Calls one TVM kernel, `conv`, on arrays read from a file; writes the last array back.
 *
 * File: int32 count; for each array: int32 type (0 float32, 1 int32), int32 ndim, int64 dims[ndim],
 * then the data. Linked statically with the kernel, so that it runs under qemu-user with no
 * library of the target system; the runtime functions that a serial kernel needs are below.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <tvm/ffi/c_api.h>

int __tvm_ffi_conv(void *self, const TVMFFIAny *args, int32_t count, TVMFFIAny *result);

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  fprintf(stderr, "%s: ", kind);
  for (int32_t i = 0; i < count; ++i) fputs(parts[i] ? parts[i] : "", stderr);
  fputc('\n', stderr);
}

static void *alloc_workspace(int type, int id, uint64_t bytes, int code, int bits) {
  (void)type, (void)id, (void)code, (void)bits;
  return aligned_alloc(64, (bytes + 63) / 64 * 64);
}

static int free_workspace(int type, int id, void *memory) {
  (void)type, (void)id;
  free(memory);
  return 0;
}

/* TVM's code reaches its runtime through these pointers, which its loader fills in. */
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = alloc_workspace;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = free_workspace;

static void take(void *to, size_t size, FILE *file) {
  if (fread(to, 1, size, file) != size) exit(2);
}

int main(int argc, char **argv) {
  if (argc != 3) return 1;
  FILE *file = fopen(argv[1], "rb");
  if (!file) return 1;
  int32_t count;
  take(&count, 4, file);
  TVMFFIAny *args = calloc(count, sizeof *args);
  DLTensor *tensors = calloc(count, sizeof *tensors);
  size_t last = 0;
  for (int32_t i = 0; i < count; ++i) {
    int32_t head[2];
    take(head, 8, file);
    DLTensor *t = &tensors[i];
    t->device.device_type = kDLCPU;
    t->ndim = head[1];
    t->shape = calloc(head[1], sizeof(int64_t));
    t->strides = calloc(head[1], sizeof(int64_t));
    take(t->shape, 8 * head[1], file);
    size_t elements = 1;
    for (int32_t d = head[1]; d-- > 0;) {
      t->strides[d] = elements;
      elements *= t->shape[d];
    }
    /* 0: float32, 1: int32, 2: uint16, 3: uint8, 4: float16 */
    uint8_t codes[] = {kDLFloat, kDLInt, kDLUInt, kDLUInt, kDLFloat};
    uint8_t bits[] = {32, 32, 16, 8, 16};
    t->dtype = (DLDataType){codes[head[0]], bits[head[0]], 1};
    last = bits[head[0]] / 8 * elements;
    t->data = aligned_alloc(64, (last + 63) / 64 * 64);
    take(t->data, last, file);
    args[i].type_index = kTVMFFIDLTensorPtr;
    args[i].v_ptr = t;
  }
  fclose(file);
  TVMFFIAny result = {0};
  if (__tvm_ffi_conv(NULL, args, count, &result) != 0) return 3;
  FILE *out = fopen(argv[2], "wb");
  if (!out || fwrite(tensors[count - 1].data, 1, last, out) != last) return 4;
  return fclose(out) ? 4 : 0;
}
