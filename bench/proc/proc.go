// Package proc reads what processes cost from Linux's /proc: processor time
// and memory of a process with all its descendants. Elsewhere it returns
// errors.
package proc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// tick is the unit of the times in /proc/<pid>/stat: USER_HZ, which is 100 on
// every Linux that Go runs on.
const tick = 10 * time.Millisecond

type stat struct {
	parent        int
	own, children time.Duration // children: those that ended and were waited for
}

// CPU returns the processor time, user and system, that the processes and their
// descendants have used so far, those that have ended included. Its resolution
// is 10 ms.
func CPU(roots ...int) (time.Duration, error) {
	all, err := snapshot()
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, root := range roots {
		if _, ok := all[root]; !ok {
			return 0, fmt.Errorf("process %d is gone", root)
		}
		for _, pid := range tree(all, root) {
			sum += all[pid].own + all[pid].children
		}
	}
	return sum, nil
}

// RSS returns the resident memory of the processes and their descendants, in
// bytes, as the sum of what each has to itself: pages that several share, such
// as PostgreSQL's buffers, count once each for the process that reports them as
// anonymous or file-backed, and shared memory is left out.
func RSS(roots ...int) (int64, error) {
	all, err := snapshot()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, root := range roots {
		for _, pid := range tree(all, root) {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil {
				continue // it ended
			}
			sum += field(status, "RssAnon:") + field(status, "RssFile:")
		}
	}
	return sum, nil
}

// field reads a size of /proc/<pid>/status, which is in KiB.
func field(status []byte, name string) int64 {
	i := bytes.Index(status, []byte("\n"+name))
	if i < 0 {
		return 0
	}
	words := bytes.Fields(status[i+len(name)+1:])
	if len(words) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(string(words[0]), 10, 64)
	return n << 10
}

// snapshot reads all processes of the machine that can be read.
func snapshot() (map[int]stat, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("no processes in /proc: %w", os.ErrNotExist)
	}
	all := map[int]stat{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if s, ok := parse(text); ok {
			all[pid] = s
		}
	}
	return all, nil
}

// parse reads a line of /proc/<pid>/stat. The second field, the name, is in
// parentheses and may hold anything, so fields count from its end (proc(5)).
func parse(text []byte) (s stat, ok bool) {
	f := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(f) < 15 {
		return stat{}, false
	}
	n := func(i int) time.Duration { // the field's number of proc(5)
		v, err := strconv.ParseInt(string(f[i-3]), 10, 64)
		ok = ok && err == nil
		return time.Duration(v)
	}
	ok = true
	s.parent = int(n(4))
	s.own = (n(14) + n(15)) * tick
	s.children = (n(16) + n(17)) * tick
	return s, ok
}

// tree lists a process and its descendants.
func tree(all map[int]stat, root int) []int {
	pids := []int{root}
	for i := 0; i < len(pids); i++ {
		for pid, s := range all {
			if s.parent == pids[i] && pid != pids[i] {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
