package disk

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// Main is for the beginning of a TestMain: a test's own program is also what
// traces and what is traced. In those roles it does not return.
func Main() {
	switch os.Getenv(roleVariable) {
	case roleTracer:
		code, err := (&tracer{dir: os.Getenv(dirVariable)}).run(os.Getenv(logVariable), os.Args[1:])
		if err != nil {
			fmt.Fprintln(os.Stderr, "trace:", err)
			code = exitNoTracing
		}
		os.Exit(code)
	case roleProgram:
		fmt.Fprintln(os.Stderr, "trace:", become(os.Args[1:]))
		os.Exit(exitNoTracing)
	}
}

// Of Linux, not in package syscall.
const (
	traceExitKill   = 0x00100000 // PTRACE_O_EXITKILL
	traceSeccomp    = 0x00000080 // PTRACE_O_TRACESECCOMP
	eventSeccomp    = 7          // PTRACE_EVENT_SECCOMP
	setNoNewPrivs   = 38         // PR_SET_NO_NEW_PRIVS
	setSeccomp      = 22         // PR_SET_SECCOMP
	filterMode      = 2          // SECCOMP_MODE_FILTER
	retTrace        = 0x7ff00000 // SECCOMP_RET_TRACE
	retAllow        = 0x7fff0000 // SECCOMP_RET_ALLOW
	archAMD64       = 0xc000003e // AUDIT_ARCH_X86_64
	sysRenameat2    = 316
	waitAll         = 0x40000000 // __WALL
	syscallStop     = syscall.SIGTRAP | 0x80
	loadWord        = syscall.BPF_LD | syscall.BPF_W | syscall.BPF_ABS
	jumpIfEqual     = syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K
	ret             = syscall.BPF_RET | syscall.BPF_K
	offsetNumber    = 0 // of struct seccomp_data
	offsetArch      = 4
	longestPath     = 4096
	longestIOVector = 1024
)

// traced are the calls that change files or make them durable. Memory that is
// mapped from a file is not seen: SQLite maps only its index, which is made anew
// after a crash.
var traced = []uint32{
	syscall.SYS_OPEN, syscall.SYS_OPENAT, syscall.SYS_WRITE, syscall.SYS_PWRITE64, syscall.SYS_WRITEV, syscall.SYS_FTRUNCATE, syscall.SYS_TRUNCATE,
	syscall.SYS_FSYNC, syscall.SYS_FDATASYNC, syscall.SYS_RENAME, syscall.SYS_RENAMEAT, sysRenameat2, syscall.SYS_UNLINK, syscall.SYS_UNLINKAT,
}

// become asks the kernel to stop this process at the traced calls, and turns it
// into the program.
func become(args []string) error {
	runtime.LockOSThread() // the filter is the thread's; the program takes it over
	filter := []syscall.SockFilter{
		{Code: loadWord, K: offsetArch},
		{Code: jumpIfEqual, K: archAMD64, Jf: uint8(len(traced) + 1)},
		{Code: loadWord, K: offsetNumber},
	}
	for i, nr := range traced {
		filter = append(filter, syscall.SockFilter{Code: jumpIfEqual, K: nr, Jt: uint8(len(traced) - i)})
	}
	filter = append(filter, syscall.SockFilter{Code: ret, K: retAllow}, syscall.SockFilter{Code: ret, K: retTrace})
	prog := syscall.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, setNoNewPrivs, 1, 0); e != 0 {
		return e
	}
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, setSeccomp, filterMode, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return e
	}
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "COUNTERSIGN_DISK_") {
			env = append(env, v)
		}
	}
	return syscall.Exec(args[0], args, env)
}

// tracer sees the traced calls of one program, one at a time.
type tracer struct {
	dir   string
	log   *os.File
	fault string // the file that says what fails
	// calling is held from the beginning of a call until it is recorded: a program
	// that is killed meanwhile may have done what nobody wrote down. A thread that
	// is killed where it stopped does not make its call.
	calling sync.Mutex
}

func (tr *tracer) run(log string, args []string) (code int, err error) {
	runtime.LockOSThread() // a thread traces, not a process
	if tr.log, err = os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return 0, err
	}
	tr.fault = log + faultSuffix
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+roleProgram)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	pid := cmd.Process.Pid
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, waitAll, nil); err != nil {
		return 0, err
	}
	options := syscall.PTRACE_O_TRACESYSGOOD | syscall.PTRACE_O_TRACECLONE | syscall.PTRACE_O_TRACEEXEC | traceSeccomp | traceExitKill
	if err := errors.Join(syscall.PtraceSetOptions(pid, options), syscall.PtraceCont(pid, 0)); err != nil {
		return 0, err
	}
	told := make(chan os.Signal, 4)
	signal.Notify(told, os.Interrupt, syscall.SIGTERM, killSignal)
	go func() {
		for sig := range told {
			if sig == killSignal {
				sig = os.Kill
			}
			tr.calling.Lock()
			_ = cmd.Process.Signal(sig) // it may be gone
			tr.calling.Unlock()
		}
	}()
	return tr.follow(pid)
}

// follow takes what stops until the program has ended.
func (tr *tracer) follow(pid int) (code int, err error) {
	known := map[int]bool{pid: true}
	for {
		var ws syscall.WaitStatus
		tid, err := syscall.Wait4(-1, &ws, waitAll, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if !ws.Stopped() {
			if tid == pid {
				return ws.ExitStatus(), nil // -1 for who was killed
			}
			continue
		}
		deliver := ws.StopSignal()
		switch {
		case deliver == syscall.SIGTRAP && ws.TrapCause() == eventSeccomp:
			tr.calling.Lock()
			err := tr.call(tid)
			tr.calling.Unlock()
			if err != nil && !gone(err) {
				return 0, err
			}
			continue
		case deliver == syscall.SIGTRAP: // a thread begins, a program begins
			deliver = 0
		case deliver == syscall.SIGSTOP && !known[tid]:
			deliver = 0
		}
		known[tid] = true
		if err := syscall.PtraceCont(tid, int(deliver)); err != nil && !gone(err) {
			return 0, err
		}
	}
}

// gone reports whether an error says that the thread was killed meanwhile.
func gone(err error) bool { return errors.Is(err, syscall.ESRCH) || errors.Is(err, os.ErrNotExist) }

// call takes a thread through the call that it stopped at. While it is in a call
// that is recorded no other one is: the order of events is that of the disk.
func (tr *tracer) call(tid int) error {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	events, err := tr.look(tid, &regs)
	if err != nil {
		return err
	}
	if len(events) == 0 {
		return syscall.PtraceCont(tid, 0)
	}
	if errno := tr.fails(tid, &regs, events[0]); errno != 0 {
		regs.Orig_rax = ^uint64(0) // no call
		regs.Rax = -uint64(errno)
		if err := syscall.PtraceSetRegs(tid, &regs); err != nil {
			return err
		}
		if events[0].Op == Sync || events[0].Op == SyncDir {
			events[0].Failed = true
			if err := tr.record(events[0]); err != nil {
				return err
			}
		}
		return syscall.PtraceCont(tid, 0)
	}
	if err := syscall.PtraceSyscall(tid, 0); err != nil {
		return err
	}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(tid, &ws, waitAll, nil); err != nil {
		return err
	}
	if !ws.Stopped() || ws.StopSignal() != syscallStop {
		return fmt.Errorf("thread %d stopped by %s within a call", tid, ws.StopSignal())
	}
	nr := regs.Orig_rax
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	if result := int64(regs.Rax); result >= 0 {
		for _, e := range events {
			if err := tr.done(tid, nr, &regs, &e, result); err != nil {
				return err
			}
		}
	}
	return syscall.PtraceCont(tid, 0)
}

// done completes an event by what its call gave, and records it.
func (tr *tracer) done(tid int, nr uint64, regs *syscall.PtraceRegs, e *Event, result int64) error {
	switch e.Op {
	case Create:
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(tr.dir, e.Name), &st); err != nil {
			return err
		}
		e.File = st.Ino
	case Write:
		e.Data = e.Data[:result]
		if nr != syscall.SYS_PWRITE64 {
			end, err := position(tid, regs.Rdi)
			if err != nil {
				return err
			}
			e.Off = end - result
		}
	}
	return tr.record(*e)
}

func (tr *tracer) record(e Event) error {
	b, err := e.frame()
	if err != nil {
		return err
	}
	_, err = tr.log.Write(b)
	return err
}

// look says what a call does if it succeeds; nothing if it is not about the
// folder.
func (tr *tracer) look(tid int, regs *syscall.PtraceRegs) ([]Event, error) {
	switch regs.Orig_rax {
	case syscall.SYS_OPEN:
		return tr.open(tid, regs.Rdi, regs.Rsi)
	case syscall.SYS_OPENAT:
		return tr.open(tid, regs.Rsi, regs.Rdx)
	case syscall.SYS_RENAME:
		return tr.rename(tid, regs.Rdi, regs.Rsi)
	case syscall.SYS_RENAMEAT, sysRenameat2:
		return tr.rename(tid, regs.Rsi, regs.R10)
	case syscall.SYS_UNLINK:
		return tr.unlink(tid, regs.Rdi)
	case syscall.SYS_UNLINKAT:
		return tr.unlink(tid, regs.Rsi)
	case syscall.SYS_TRUNCATE:
		name, err := tr.path(tid, regs.Rdi)
		if err != nil || name == "" {
			return nil, err
		}
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(tr.dir, name), &st); err != nil {
			return nil, nil // and so it fails
		}
		return []Event{{Op: Truncate, File: st.Ino, Size: int64(regs.Rsi)}}, nil
	}
	return tr.opened(tid, regs)
}

// opened is look for calls about an open file.
func (tr *tracer) opened(tid int, regs *syscall.PtraceRegs) ([]Event, error) {
	link := fmt.Sprintf("/proc/%d/fd/%d", tid, int32(regs.Rdi))
	path, err := os.Readlink(link)
	if err != nil || path != tr.dir && filepath.Dir(path) != tr.dir {
		return nil, nil // not a file of the folder, or none at all
	}
	var st syscall.Stat_t
	if err := syscall.Stat(link, &st); err != nil {
		return nil, err
	}
	e := Event{File: st.Ino}
	switch regs.Orig_rax {
	case syscall.SYS_FSYNC, syscall.SYS_FDATASYNC:
		e.Op = Sync
		if path == tr.dir {
			e.Op = SyncDir
		}
	case syscall.SYS_FTRUNCATE:
		e.Op, e.Size = Truncate, int64(regs.Rsi)
	case syscall.SYS_PWRITE64:
		e.Op, e.Off = Write, int64(regs.R10)
		e.Data, err = memory(tid, regs.Rsi, regs.Rdx)
	case syscall.SYS_WRITE:
		e.Op = Write
		e.Data, err = memory(tid, regs.Rsi, regs.Rdx)
	case syscall.SYS_WRITEV:
		e.Op = Write
		e.Data, err = vector(tid, regs.Rsi, regs.Rdx)
	}
	return []Event{e}, err
}

func (tr *tracer) open(tid int, path, flags uint64) ([]Event, error) {
	if flags&(syscall.O_CREAT|syscall.O_TRUNC) == 0 {
		return nil, nil
	}
	name, err := tr.path(tid, path)
	if err != nil || name == "" {
		return nil, err
	}
	var st syscall.Stat_t
	switch err := syscall.Lstat(filepath.Join(tr.dir, name), &st); {
	case errors.Is(err, syscall.ENOENT) && flags&syscall.O_CREAT != 0:
		return []Event{{Op: Create, Name: name}}, nil
	case err == nil && flags&syscall.O_TRUNC != 0:
		return []Event{{Op: Truncate, File: st.Ino}}, nil
	}
	return nil, nil
}

func (tr *tracer) rename(tid int, from, to uint64) ([]Event, error) {
	a, err := tr.path(tid, from)
	if err != nil {
		return nil, err
	}
	b, err := tr.path(tid, to)
	if err != nil || a == "" && b == "" {
		return nil, err
	}
	if a == "" || b == "" {
		return nil, fmt.Errorf("a file moves into or out of the folder: %q to %q", a, b)
	}
	return []Event{{Op: Rename, Name: a, To: b}}, nil
}

func (tr *tracer) unlink(tid int, path uint64) ([]Event, error) {
	name, err := tr.path(tid, path)
	if err != nil || name == "" {
		return nil, err
	}
	return []Event{{Op: Unlink, Name: name}}, nil
}

// path is the name below the folder that an argument says, "" if it is none. The
// programs name files by absolute paths.
func (tr *tracer) path(tid int, at uint64) (string, error) {
	b, err := memory(tid, at, longestPath)
	if err != nil {
		return "", err
	}
	path, _, _ := strings.Cut(string(b), "\x00")
	if filepath.Dir(path) != tr.dir {
		return "", nil
	}
	return filepath.Base(path), nil
}

// fails says how a call is to fail; 0: not at all.
func (tr *tracer) fails(tid int, regs *syscall.PtraceRegs, e Event) syscall.Errno {
	b, err := os.ReadFile(tr.fault)
	if err != nil {
		return 0
	}
	var f Fault
	if json.Unmarshal(b, &f) != nil {
		return 0
	}
	switch e.Op {
	case Sync, SyncDir:
		if !f.Sync {
			return 0
		}
	case Write, Truncate:
		if !f.Write {
			return 0
		}
	default:
		return 0
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(regs.Rdi)))
	if err != nil || !strings.HasSuffix(path, f.File) {
		return 0
	}
	return f.Errno
}

// memory reads the memory of a thread, up to where it ends.
func memory(tid int, at, n uint64) ([]byte, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", tid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	got, err := f.ReadAt(b, int64(at))
	if got > 0 {
		err = nil
	}
	return b[:got], err
}

// vector reads what a writev writes.
func vector(tid int, at, count uint64) (all []byte, err error) {
	iov, err := memory(tid, at, min(count, longestIOVector)*16)
	for ; err == nil && len(iov) >= 16; iov = iov[16:] {
		var b []byte
		b, err = memory(tid, binary.LittleEndian.Uint64(iov), binary.LittleEndian.Uint64(iov[8:]))
		all = append(all, b...)
	}
	return all, err
}

// position is where an open file stands.
func position(tid int, fd uint64) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", tid, int32(fd)))
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strconv.ParseInt(strings.TrimSpace(strings.TrimPrefix(line, "pos:")), 10, 64)
}
