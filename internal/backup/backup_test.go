package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
)

type plain struct{ *bytes.Buffer }

func (plain) Close() error { return nil }

var manifest = Manifest{Part: Database, Deployment: "dpl_1", Issuer: "https://id.example.com", MadeAt: time.Unix(1790000000, 0).UTC(), Schema: 5, Epoch: 1, HW: 3, LogKey: "k", Rows: 4}

// sample fills a bundle with every kind of value.
func sample(w *Writer) error {
	return errors.Join(
		w.File("a.json", []byte("{}")), w.File("large", bytes.Repeat([]byte("x"), 100<<10)),
		w.Table("one", []string{"id", "n", "b"}), w.Row([]any{"x", int64(-5), []byte{0, 1}}), w.Row([]any{"", nil, []byte{}}),
		w.Table("none", []string{"id"}),
		w.Table("two", []string{"blob"}), w.Row([]any{bytes.Repeat([]byte{7}, 200<<10)}), w.Row([]any{int64(1) << 62}),
		w.Close())
}

const sampleRows = `one [id n b] [x -5 [0 1]]
one [id n b] [ <nil> []]
two [blob] 204800 bytes
two [blob] [4611686018427387904]
`

func inside(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := write(plain{&b}, manifest)
	if err := errors.Join(err, sample(w)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// drain reads all rows as text.
func drain(r *Reader) (string, error) {
	var b strings.Builder
	for {
		table, columns, row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return b.String(), nil
		}
		if err != nil {
			if table != "" || columns != nil || row != nil {
				return "", fmt.Errorf("a row came with an error: %w", err)
			}
			return "", err
		}
		if v, ok := row[0].([]byte); ok && len(v) > 1000 {
			fmt.Fprintln(&b, table, columns, len(v), "bytes")
			continue
		}
		fmt.Fprintln(&b, table, columns, row)
	}
}

func TestRoundTrip(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	w, err := NewWriter(&sealed, []age.Recipient{id.Recipient()}, manifest)
	if err := errors.Join(err, sample(w)); err != nil {
		t.Fatal(err)
	}
	r, err := Open(bytes.NewReader(sealed.Bytes()), []age.Identity{id})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(manifest, r.Manifest); diff != "" {
		t.Error(diff)
	}
	if string(r.Files["a.json"]) != "{}" || len(r.Files["large"]) != 100<<10 || len(r.Files) != 2 {
		t.Errorf("files: %d", len(r.Files))
	}
	got, err := drain(r)
	if err != nil || got != sampleRows {
		t.Errorf("%v\n%s", err, got)
	}
	if _, _, _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	flipped := bytes.Clone(sealed.Bytes())
	flipped[len(flipped)-1] ^= 1
	if r, err := Open(bytes.NewReader(flipped), []age.Identity{id}); err == nil {
		if _, err = drain(r); err == nil {
			t.Error("a flipped bit was not noticed")
		}
	}
}

// A table without columns would have rows of no size, without end.
func TestNoColumns(t *testing.T) {
	var b bytes.Buffer
	w, err := write(plain{&b}, manifest)
	if err := errors.Join(err, w.Table("none", nil), w.Row(nil), w.Close()); err != nil {
		t.Fatal(err)
	}
	r, err := read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := r.Next(); err == nil || !strings.Contains(err.Error(), "no columns") {
		t.Errorf("%v", err)
	}
}

// Everything short of the whole is refused, wherever it is cut.
func TestCut(t *testing.T) {
	whole := inside(t)
	for n := range len(whole) {
		r, err := read(bytes.NewReader(whole[:n]))
		if err == nil {
			_, err = drain(r)
		}
		if err == nil {
			t.Fatalf("the first %d of %d bytes count as a backup", n, len(whole))
		}
	}
	for name, b := range map[string][]byte{
		"more after it": append(bytes.Clone(whole), 'x'), "another form": append([]byte("countersign-backup/2\n"), whole[len(magic):]...), "nothing": nil,
	} {
		r, err := read(bytes.NewReader(b))
		if err == nil {
			_, err = drain(r)
		}
		if err == nil {
			t.Errorf("%s counts as a backup", name)
		}
	}
	if r, err := read(bytes.NewReader(whole)); err != nil { // positive control
		t.Error(err)
	} else if got, err := drain(r); err != nil || got != sampleRows {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestWriterRefuses(t *testing.T) {
	w, err := write(plain{&bytes.Buffer{}}, manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Table("t", []string{"a"}); err != nil {
		t.Fatal(err)
	}
	for _, row := range [][]any{{}, {1.5}, {"a", "b"}, {time.Now()}} {
		if w.Row(row) == nil {
			t.Errorf("%v was written", row)
		}
	}
	if w.File("x", make([]byte, maxFile+1)) == nil {
		t.Error("a file that no reader takes was written")
	}
}

// FuzzRead: whatever comes, it is read or refused, within bounds, and an error
// comes with no value.
func FuzzRead(f *testing.F) {
	whole := inside(f)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := read(bytes.NewReader(b))
		if err != nil {
			if r != nil {
				t.Fatal("a reader came with an error")
			}
			return
		}
		if _, err := drain(r); err != nil && strings.Contains(err.Error(), "came with an error") {
			t.Fatal(err)
		}
	})
}

// FuzzFrames reads frames that are not compressed: the fuzzer reaches more of them.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("m\x02{}t\x01a\x01\x01br\x01\x02e\x01"))
	f.Add([]byte("m\x02{}f\x01a\x01be\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := reader(bytes.NewReader(b))
		if err := r.begin(); err != nil {
			return
		}
		if _, err := drain(r); err != nil && strings.Contains(err.Error(), "came with an error") {
			t.Fatal(err)
		}
	})
}
