package file

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// names are what a folder has, but for the file.
func names(t *testing.T, path string) (others []string) {
	t.Helper()
	list, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Name() != filepath.Base(path) {
			others = append(others, e.Name())
		}
	}
	return others
}

func holds(t *testing.T, path, want string, mode fs.FileMode) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil || string(text) != want {
		t.Errorf("%q, %v; want %q", text, err, want)
	}
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != mode {
		t.Errorf("%v, %v; want mode %o", info.Mode(), err, mode)
	}
	if others := names(t, path); len(others) > 0 {
		t.Errorf("left beside it: %v", others)
	}
}

// TestReplace: the content and the mode are those asked for, whatever was there.
func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	for _, c := range []struct {
		content string
		mode    fs.FileMode
	}{{"one", 0o600}, {"two, and longer", 0o644}, {"", 0o640}, {"x", 0o600 | fs.ModeSetuid}} {
		if err := Replace(path, []byte(c.content), c.mode); err != nil {
			t.Fatal(err)
		}
		holds(t, path, c.content, c.mode.Perm())
	}
}

// TestNothingIsLost: what cannot be replaced stays as it was, with nothing beside it.
func TestNothingIsLost(t *testing.T) {
	dir := t.TempDir()
	if err := Replace(filepath.Join(dir, "no", "such", "folder"), nil, private); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	// The name is a folder's: the rename fails, after everything else.
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(taken, []byte("y"), private); err == nil {
		t.Error("a folder was replaced")
	}
	if others := names(t, taken); len(others) > 0 {
		t.Errorf("left beside it: %v", others)
	}
	if os.Geteuid() <= 0 {
		return // root writes everywhere, and modes say nothing on Windows
	}
	shut := filepath.Join(t.TempDir(), "a")
	if err := Replace(shut, []byte("kept"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(shut), 0o500); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Dir(shut), 0o700)
	if err := Replace(shut, []byte("lost"), private); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v", err)
	}
	holds(t, shut, "kept", 0o640)
}

// TestReadersSeeOneOrTheOther: nobody who opens the file meanwhile sees a part of it.
func TestReadersSeeOneOrTheOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	all := [][]byte{bytes.Repeat([]byte("a"), 1<<16), bytes.Repeat([]byte("b"), 3<<15)}
	if err := Replace(path, all[0], private); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				if text, err := os.ReadFile(path); err != nil && runtime.GOOS != "windows" || err == nil && !bytes.Equal(text, all[0]) && !bytes.Equal(text, all[1]) {
					t.Errorf("%d bytes, %v", len(text), err)
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for i := range 100 {
		if err := Replace(path, all[i%2], private); err != nil && runtime.GOOS != "windows" {
			t.Error(err)
		}
	}
	close(done)
	readers.Wait()
}

// victim is set for the process that TestKilled kills: the file that it replaces for ever.
const victim = "COUNTERSIGN_TEST_REPLACES"

func TestMain(m *testing.M) {
	if path := os.Getenv(victim); path != "" {
		for i := 0; ; i++ {
			if err := Replace(path, numbered(i), private); err != nil {
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

// numbered is a content that tells whether it is whole: lines of the same number, and an end.
func numbered(i int) []byte {
	return []byte(strings.Repeat(strconv.Itoa(i)+"\n", 2000) + "end\n")
}

// TestKilled: a process that is killed while it replaces leaves one content or the other.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := Replace(path, numbered(0), private); err != nil {
		t.Fatal(err)
	}
	before := numbered(0)
	for range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), victim+"="+path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// Killed once it has replaced something, at whatever it is doing then.
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if now, err := os.ReadFile(path); err == nil && !bytes.Equal(now, before) {
				break
			}
			if time.Now().After(end) {
				t.Fatal("nothing was replaced within a minute")
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		i, err := strconv.Atoi(first)
		if err != nil || !bytes.Equal(text, numbered(i)) {
			t.Fatalf("a part: %d bytes that begin with %q", len(text), first)
		}
		before = text
	}
}
