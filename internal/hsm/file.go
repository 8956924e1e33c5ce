// Package hsm holds the key-encryption key: in a file of mode 0600 today; KMS,
// PKCS #11 and TPM adapters join it behind keyring.Sealer. It seals with Tink's
// AES-256-GCM, so that the key rotates as a keyset.
package hsm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/countersign-dev/countersign/internal/file"
)

// File is a key-encryption key kept as a Tink keyset in a file.
type File struct{ aead tink.AEAD }

// OpenFile reads the keyset. A file that others may read is refused (security,
// invariant 12).
func OpenFile(path string) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("key-encryption key: %w", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key-encryption key: %s can be read by others (mode %04o); run: chmod 600 %s", path, st.Mode().Perm(), path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("key-encryption key: %w", err)
	}
	f, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, path)
	}
	return f, nil
}

// Parse reads the content of a keyset file.
func Parse(b []byte) (*File, error) {
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(b)))
	if err != nil {
		return nil, fmt.Errorf("key-encryption key: it is not a keyset: %w", err)
	}
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("key-encryption key: %w", err)
	}
	return &File{a}, nil
}

// CreateFile makes a new keyset file of mode 0600; one that exists stays and is
// an error.
func CreateFile(path string) error {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&b)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return file.SyncDir(filepath.Dir(path))
}

// OpenOrCreateFile opens the keyset and makes it first where there is none: for
// the sandbox and for a first start on an empty database.
func OpenOrCreateFile(path string) (*File, error) {
	if err := CreateFile(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("key-encryption key: %w", err)
	}
	return OpenFile(path)
}

// Seal encrypts plain with the associated data.
func (f *File) Seal(plain, associated []byte) ([]byte, error) {
	return f.aead.Encrypt(plain, associated)
}

// Open decrypts what Seal made with the same associated data.
func (f *File) Open(sealed, associated []byte) ([]byte, error) {
	return f.aead.Decrypt(sealed, associated)
}
