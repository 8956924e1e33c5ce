package hsm

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek.json")
	if _, err := OpenFile(path); err == nil {
		t.Fatal("a missing file opened")
	}
	a, err := OpenOrCreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", st.Mode().Perm())
	}
	sealed, err := a.Seal([]byte("plain"), []byte("key/1"))
	if err != nil || bytes.Contains(sealed, []byte("plain")) {
		t.Fatal(err, "or not sealed")
	}
	b, err := OpenOrCreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.Open(sealed, []byte("key/1")); err != nil || string(got) != "plain" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := b.Open(sealed, []byte("key/2")); err == nil {
		t.Error("opened under another name")
	}
	if err := CreateFile(path); err == nil {
		t.Error("an existing key was replaced")
	}
	os.Chmod(path, 0o640)
	if _, err := OpenFile(path); err == nil {
		t.Error("a key that others can read was used")
	}
	os.WriteFile(path, []byte("{}"), 0o600)
	os.Chmod(path, 0o600)
	if _, err := OpenFile(path); err == nil {
		t.Error("nonsense was read as a keyset")
	}
}
