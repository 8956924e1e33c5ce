package internal_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxCommitted is the most bytes of a file in the repository.
const maxCommitted = 1 << 20

// committedAnyway are files that TestNothingBuiltIsCommitted would refuse, by their
// paths, and why each is here.
var committedAnyway = map[string]string{}

// built says what is wrong with a file in the repository, "" if nothing is: it is
// made by a build, or is no text that somebody can read and compare.
func built(name string, content []byte, programs []string) string {
	base := strings.TrimSuffix(path.Base(name), ".exe")
	switch {
	case slices.Contains(programs, base):
		return "has the name of a built program"
	case slices.Contains([]string{".exe", ".test", ".so", ".dylib", ".dll", ".a", ".o", ".tar", ".gz", ".tgz", ".xz", ".zst", ".zip", ".deb", ".rpm", ".db"}, path.Ext(name)):
		return "has the name of what a build or a run leaves"
	case len(content) > maxCommitted:
		return fmt.Sprintf("has %d bytes, more than %d", len(content), maxCommitted)
	case bytes.IndexByte(content, 0) >= 0 || !utf8.Valid(content):
		return "is no text: a program, an archive, an image?"
	}
	return ""
}

// programs are the names of what the module builds.
func programs(t *testing.T, root string) (names []string) {
	t.Helper()
	dirs, err := os.ReadDir(filepath.Join(root, "cmd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		names = append(names, d.Name())
	}
	return names
}

// committed lists the files of the repository, with paths below the root; ok is false
// if this is no checkout, or there is no git.
func committed(t *testing.T, root string) (paths []string, ok bool) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root, ".git")); err != nil {
		return nil, false
	}
	if _, err := exec.LookPath("git"); err != nil {
		return nil, false
	}
	cmd := exec.Command("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == 0 }), true
}

// TestNothingBuiltIsCommitted: a program once was, with twenty million bytes, which
// stay in every clone for ever.
func TestNothingBuiltIsCommitted(t *testing.T) {
	paths, ok := committed(t, "..")
	if !ok {
		t.Skip("this is no checkout: what is here was not all committed")
	}
	if len(paths) < 500 {
		t.Fatalf("git names %d files only", len(paths))
	}
	names := programs(t, "..")
	for _, p := range paths {
		file := filepath.Join("..", filepath.FromSlash(p))
		info, err := os.Lstat(file)
		if err != nil || !info.Mode().IsRegular() {
			continue // deleted here and not yet there; or a link
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		why := built(p, content, names)
		if _, known := committedAnyway[p]; why != "" && !known {
			t.Errorf("%s %s. Take it out of the history before it is merged, or list it in committedAnyway with a reason", p, why)
		}
	}
}

// TestBuiltThingsAreFound is the control.
func TestBuiltThingsAreFound(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	names := programs(t, "..")
	for name, content := range map[string][]byte{
		"countersignd":               []byte("text"),
		"deploy/countersign.exe":     []byte("text"),
		"internal/server.test":       []byte("text"),
		"dist/x.tar.gz":              []byte("text"),
		"tool":                       program,
		"tool, small":                program[:4096],
		"archive":                    []byte("\x1f\x8b\x08\x00\x00"),
		"docs/picture":               []byte("\x89PNG\r\n\x1a\n"),
		"testdata/many-lines.golden": bytes.Repeat([]byte("line\n"), maxCommitted/5+1),
	} {
		if built(name, content, names) == "" {
			t.Errorf("%s is taken for something written", name)
		}
	}
	for name, content := range map[string]string{"cmd/countersignd/main.go": "package main", "docs/ä.md": "Grüße", "testdata/empty": ""} {
		if why := built(name, []byte(content), names); why != "" {
			t.Errorf("%s %s", name, why)
		}
	}
}
