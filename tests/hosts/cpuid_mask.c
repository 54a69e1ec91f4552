/* Hides instruction sets from everything in a process (tests only).

   gcc -shared -fPIC -O1 -o cpuid_mask.so cpuid_mask.c -ldl
   CPUID_MASK=avx2 LD_PRELOAD=./cpuid_mask.so python ...      hides AVX-512 and what came after
   CPUID_MASK=avx512 LD_PRELOAD=./cpuid_mask.so python ...    hides VNNI, bf16, fp16, AMX

   The CPUID instruction is made to fault (arch_prctl ARCH_CPUID; the CPU and the kernel must be able
   to: the flag cpuid_fault in /proc/cpuinfo), and the handler answers with features taken away. A
   process that sets a handler of its own for SIGSEGV keeps it: ours passes on what is not CPUID. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_CPUID 0x1012
#define BIT(n) (1u << (n))

static struct sigaction theirs;
static int on, narrow;
static int (*real)(int, const struct sigaction *, struct sigaction *);

static void cpuid_allowed(long value) { syscall(SYS_arch_prctl, ARCH_CPUID, value); }

static void mask(unsigned leaf, unsigned sub, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
  if (leaf == 7 && sub == 0) {
    *b &= ~BIT(21); /* avx512ifma */
    *c &= ~(BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14)); /* vbmi vbmi2 vnni bitalg vpopcntdq */
    *d &= ~(BIT(2) | BIT(3) | BIT(8)); /* 4vnniw 4fmaps vp2intersect */
    *d &= ~(BIT(22) | BIT(23) | BIT(24) | BIT(25)); /* amx-bf16 avx512-fp16 amx-tile amx-int8 */
    if (narrow) *b &= ~(BIT(16) | BIT(17) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
  }
  if (leaf == 7 && sub == 1) {
    *a &= ~(BIT(4) | BIT(5) | BIT(21) | BIT(23)); /* avx-vnni avx512-bf16 amx-fp16 avx-ifma */
    *d &= ~(BIT(4) | BIT(5)); /* avx-vnni-int8 avx-ne-convert */
  }
}

static void handler(int number, siginfo_t *info, void *context) {
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  unsigned char *at = (void *)registers[REG_RIP];
  if (info->si_code == SI_KERNEL && at[0] == 0x0f && at[1] == 0xa2) {
    unsigned leaf = registers[REG_RAX], sub = registers[REG_RCX], a, b, c, d;
    cpuid_allowed(1);
    __cpuid_count(leaf, sub, a, b, c, d);
    cpuid_allowed(0);
    mask(leaf, sub, &a, &b, &c, &d);
    registers[REG_RAX] = a;
    registers[REG_RBX] = b;
    registers[REG_RCX] = c;
    registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
    return;
  }
  if (theirs.sa_flags & SA_SIGINFO) {
    theirs.sa_sigaction(number, info, context);
    return;
  }
  if (theirs.sa_handler != SIG_DFL && theirs.sa_handler != SIG_IGN) {
    theirs.sa_handler(number);
    return;
  }
  struct sigaction plain = {0};
  plain.sa_handler = SIG_DFL;
  real(SIGSEGV, &plain, 0);
}

int sigaction(int number, const struct sigaction *new, struct sigaction *old) {
  if (!real) real = dlsym(RTLD_NEXT, "sigaction");
  if (number == SIGSEGV && on) {
    if (old) *old = theirs;
    if (new) theirs = *new;
    return 0;
  }
  return real(number, new, old);
}

sighandler_t signal(int number, sighandler_t function) {
  struct sigaction wanted = {0}, old;
  wanted.sa_handler = function;
  wanted.sa_flags = SA_RESTART;
  return sigaction(number, &wanted, &old) ? SIG_ERR : old.sa_handler;
}

__attribute__((constructor(101))) static void start(void) {
  const char *asked = getenv("CPUID_MASK");
  if (!asked) return;
  narrow = strcmp(asked, "avx2") == 0;
  real = dlsym(RTLD_NEXT, "sigaction");
  struct sigaction ours = {0};
  ours.sa_sigaction = handler;
  ours.sa_flags = SA_SIGINFO | SA_NODEFER;
  real(SIGSEGV, &ours, &theirs);
  on = 1;
  cpuid_allowed(0);
}
