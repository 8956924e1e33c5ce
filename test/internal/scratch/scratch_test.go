//go:build unix

package scratch

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSweepTakesOnlyWhatNobodyHolds(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	held, remove, err := Dir("kind")
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(os.TempDir(), "countersign-kind-left")
	fresh := filepath.Join(os.TempDir(), "countersign-kind-fresh")
	other := filepath.Join(os.TempDir(), "countersign-other-left")
	for _, dir := range []string{left, fresh, other} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+".lock", nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-2 * settling)
	for _, dir := range []string{held, left, other} {
		if err := os.Chtimes(dir+".lock", old, old); err != nil {
			t.Fatal(err)
		}
	}

	_, removeNext, err := Dir("kind")
	if err != nil {
		t.Fatal(err)
	}
	defer removeNext()
	for dir, want := range map[string]bool{held: true, left: false, fresh: true, other: true} {
		_, err := os.Stat(dir)
		if got := err == nil; got != want {
			t.Errorf("%s exists: %v, want %v", filepath.Base(dir), got, want)
		}
	}
	remove()
	if _, err := os.Stat(held); err == nil {
		t.Error("the folder outlives its removal")
	}
	if _, err := os.Stat(held + ".lock"); err == nil {
		t.Error("the lock outlives its folder")
	}
}
