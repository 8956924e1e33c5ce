package disk

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// image is what a power cut leaves, by name.
func image(t *testing.T, s *State, loss Loss, seed uint64) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if err := s.Image(dir, loss, rand.New(rand.NewPCG(seed, 0))); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(b)
	}
	return out
}

// What was synced is there whatever happens; of the rest, what each way of
// losing says.
func TestImage(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 2*sector)
	events := []Event{
		{Op: Create, File: 1, Name: "a"},
		{Op: Write, File: 1, Data: []byte("hello")},
		{Op: SyncDir},
		{Op: Sync, File: 1},
		{Op: Write, File: 1, Off: 5, Data: []byte(" world")},
		{Op: Create, File: 2, Name: "b.new"},
		{Op: Write, File: 2, Data: long},
		{Op: Rename, Name: "b.new", To: "b"},
		{Op: Truncate, File: 1, Size: 2},
	}
	s := &State{inodes: map[uint64]int{}, durable: map[string]int{}}
	at := make([]*State, len(events))
	for i, e := range events {
		s.Apply(e)
		at[i] = s.Clone()
	}
	for _, c := range []struct {
		after int
		loss  Loss
		want  map[string]string
	}{
		{1, Dropped, map[string]string{}},
		{1, Kept, map[string]string{"a": "hello"}},
		{2, Dropped, map[string]string{"a": ""}}, // the name without its bytes
		{3, Dropped, map[string]string{"a": "hello"}},
		{4, Dropped, map[string]string{"a": "hello"}},
		{4, Kept, map[string]string{"a": "hello world"}},
		{8, Dropped, map[string]string{"a": "hello"}},
		{8, Kept, map[string]string{"a": "he", "b": string(long)}},
	} {
		got := image(t, at[c.after], c.loss, 1)
		if len(got) != len(c.want) {
			t.Errorf("after %d, %s: %d files, want %d", c.after, c.loss, len(got), len(c.want))
		}
		for name, want := range c.want {
			if got[name] != want {
				t.Errorf("after %d, %s: %s is %q, want %q", c.after, c.loss, name, got[name], want)
			}
		}
	}
	// Chance finds each of what is possible: a name without its bytes, half a
	// write, and the later of two writes without the earlier.
	seen := map[string]bool{}
	for seed := range uint64(200) {
		got := image(t, at[8], Torn, seed)
		switch b, ok := got["b"]; {
		case ok && b == "":
			seen["empty"] = true
		case ok && strings.Trim(b[:sector], "\x00") == "" && len(b) == 2*sector:
			seen["second half"] = true
		case ok && len(b) == sector:
			seen["first half"] = true
		}
		if b, _, ok := strings.Cut(got["a"], " world"); ok && b == "hello" {
			seen["a later truncation lost"] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("of four ways to lose only %v came up", seen)
	}
}

// An inode is used again before the disk knows that its first file lost its name.
func TestInodeUsedAgain(t *testing.T) {
	s := &State{inodes: map[uint64]int{}, durable: map[string]int{}}
	s.durable["a"] = s.add(1, []byte("old"))
	for _, e := range []Event{
		{Op: Create, File: 2, Name: "new"},
		{Op: Write, File: 2, Data: []byte("new")},
		{Op: Sync, File: 2},
		{Op: Rename, Name: "new", To: "a"},
		{Op: Create, File: 1, Name: "newer"},
		{Op: Write, File: 1, Data: []byte("newer")},
		{Op: Sync, File: 1},
		{Op: Rename, Name: "newer", To: "a"},
	} {
		s.Apply(e)
	}
	if got := image(t, s, Dropped, 1)["a"]; got != "old" {
		t.Errorf("without the changes of names: %q", got)
	}
	if got := image(t, s, Kept, 1)["a"]; got != "newer" {
		t.Errorf("with them: %q", got)
	}
}

// A sync that fails loses what it was for, whatever is synced later; a disk that
// lies loses all.
func TestFailedSync(t *testing.T) {
	run := func(lying bool, events ...Event) string {
		s := &State{inodes: map[uint64]int{}, durable: map[string]int{}, Lying: lying}
		s.durable["a"] = s.add(1, nil)
		for _, e := range events {
			s.Apply(e)
		}
		return image(t, s, Dropped, 1)["a"]
	}
	write := func(off int64, text string) Event { return Event{Op: Write, File: 1, Off: off, Data: []byte(text)} }
	sync, failed := Event{Op: Sync, File: 1}, Event{Op: Sync, File: 1, Failed: true}
	if got := run(false, write(0, "lost"), failed, sync); got != "" {
		t.Errorf("a failed sync, then another: %q", got)
	}
	if got := run(false, write(0, "lost"), failed, write(0, "kept"), sync); got != "kept" {
		t.Errorf("written again: %q", got)
	}
	if got := run(true, write(0, "lost"), sync); got != "" {
		t.Errorf("a disk that lies: %q", got)
	}
}

// A recording is read as it was written; half an event at its end is none.
func TestRecording(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recording")
	var all []byte
	for _, e := range []Event{{Op: Create, File: 7, Name: "n"}, {Op: Write, File: 7, Off: 3, Data: []byte("bytes")}} {
		b, err := e.frame()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	for _, more := range []string{"", "\x00\x00", "\x00\x00\x00\x05\x00\x00\x00\x01{}"} {
		if err := os.WriteFile(path, append(bytes.Clone(all), more...), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := read(path)
		if err != nil || len(got) != 2 || string(got[1].Data) != "bytes" || got[1].Off != 3 || got[1].End != int64(len(all)) || got[0].Name != "n" {
			t.Errorf("with %q after it: %v, %v", more, got, err)
		}
	}
}
