/*
 * Lets User-Mode Linux set the floating-point registers of its processes where the CPU has more of them than it knows of.
 *
 * UML 6.1 keeps them in a buffer of fixed size. On a CPU with AMX they take 11 kB, the kernel of the host refuses to set a
 * part of them only, and UML panics: "ptrace set fp regs failed". So all of them are read first, what UML wants is laid
 * over them, and all of them are set. Built and preloaded by rig.py; it changes nothing on a CPU without AMX.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Not on the stack: UML's are small. One thread of UML calls ptrace at a time. */
static char registers[1 << 16] __attribute__((aligned(64)));

static long set_registers(pid_t process, const struct iovec *given)
{
	struct iovec whole = {.iov_base = registers, .iov_len = sizeof registers};

	if (syscall(SYS_ptrace, PTRACE_GETREGSET, process, NT_X86_XSTATE, &whole) < 0)
		return -1;
	memcpy(registers, given->iov_base, given->iov_len < whole.iov_len ? given->iov_len : whole.iov_len);
	return syscall(SYS_ptrace, PTRACE_SETREGSET, process, NT_X86_XSTATE, &whole);
}

/* glibc's own returns what it peeked at, where the system call stores it. */
static long peek(enum __ptrace_request request, pid_t process, void *address)
{
	long word;

	if (syscall(SYS_ptrace, request, process, address, &word) < 0)
		return -1;
	errno = 0;
	return word;
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;

	va_start(arguments, request);
	pid_t process = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);
	if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE)
		return set_registers(process, data);
	if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER)
		return peek(request, process, address);
	return syscall(SYS_ptrace, request, process, address, data);
}
