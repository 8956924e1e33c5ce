//go:build linux

package sqlite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/store"
)

// fill takes what room there is.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 16; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 16
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// A full disk gives up the reserve, on which writing goes on; a restart does not
// forget it, and it is made again once there is room for twice of it.
func TestReserve(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=12m,mode=0700"); err != nil {
		t.Skipf("a small disk of its own cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	o := Options{Path: filepath.Join(dir, "db"), Reserve: 2 << 20}
	e := openEngine(t, o)
	is := func(want store.Room, size int64) {
		t.Helper()
		fi, err := os.Stat(o.Path + ".reserve")
		if size < 0 && errors.Is(err, os.ErrNotExist) && e.Room() == want {
			return
		}
		if err != nil || e.Room() != want || fi.Size() != size {
			t.Fatalf("room %d, want %d: %v %v", e.Room(), want, fi.Size(), err)
		}
	}
	tend := func() {
		t.Helper()
		if err := e.TendReserve(); err != nil {
			t.Fatal(err)
		}
	}
	is(store.NoReserve, -1)
	tend()
	is(store.ReserveKept, o.Reserve)
	var st syscall.Stat_t
	if err := syscall.Stat(o.Path+".reserve", &st); err != nil || st.Blocks*512 < o.Reserve {
		t.Fatalf("the reserve takes %d bytes of the disk: %v", st.Blocks*512, err)
	}

	filler := filepath.Join(dir, "filler")
	fill(t, filler)
	pad, n := strings.Repeat("x", 20_000), 0
	var err error
	for ; err == nil && n < 500; n++ {
		err = e.Write(context.Background(), insert(n, pad))
	}
	if !errors.Is(err, problem.Unavailable) {
		t.Fatalf("a full disk: %v", err)
	}
	is(store.ReserveUsed, 0)
	for i := range 20 {
		if err := e.Write(context.Background(), insert(1000+i, pad)); err != nil {
			t.Fatalf("on the reserve, write %d: %v", i, err)
		}
	}
	tend()
	is(store.ReserveUsed, 0)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = openEngine(t, o)
	is(store.ReserveUsed, 0)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	tend()
	is(store.ReserveKept, o.Reserve)
}

// Without room from the start, or when none is wanted, there is no reserve.
func TestNoReserve(t *testing.T) {
	for _, size := range []int64{0, 1 << 60} {
		e := openEngine(t, Options{Reserve: size})
		if err := e.TendReserve(); err != nil || e.Room() != store.NoReserve {
			t.Errorf("%d: %v, %v", size, e.Room(), err)
		}
	}
}
