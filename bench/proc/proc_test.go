package proc

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestParseReadsBehindTheName(t *testing.T) {
	s, ok := parse([]byte("42 (a) 1 (b)) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1 0 99 0 0"))
	if want := (stat{parent: 7, own: 2 * time.Second, children: 500 * time.Millisecond}); !ok || s != want {
		t.Errorf("parse: %+v %v, want %+v", s, ok, want)
	}
	if _, ok := parse([]byte("42 (a) S 7")); ok {
		t.Error("a short line is read")
	}
}

func TestCPUCountsDescendantsEvenEnded(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc")
	}
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done").Run(); err != nil {
		t.Fatal(err)
	}
	after, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after-before < 20*time.Millisecond {
		t.Errorf("an ended child's time is missing: %s", after-before)
	}
	if rss, err := RSS(os.Getpid()); err != nil || rss < 1<<20 {
		t.Errorf("memory of this process: %d bytes, %v", rss, err)
	}
	if _, err := CPU(1 << 30); err == nil {
		t.Error("a process that does not exist costs nothing without an error")
	}
}
