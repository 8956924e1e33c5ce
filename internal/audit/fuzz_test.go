package audit

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// general is a part as Open gives it.
func general(t testing.TB, p Part) OpenPart {
	t.Helper()
	b, err := json.Marshal(p.Body)
	if err != nil {
		t.Fatal(err)
	}
	return OpenPart{JSON: b}
}

// What a process vouches for, which process was lost, and what opens an epoch: an error
// comes with no value, and what is read is written back as the same.
func FuzzVouched(f *testing.F) {
	e := Entry{Kind: WriterBeat, Writer: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}}
	for _, p := range []Part{
		Beat{Writer: e.Writer, From: 1, Last: 9, Count: 6, RolledBack: []Range{{2, 3}}, Unknown: []Range{{5, 5}, {9, 9}}, Closing: true}.Part(),
		Beat{Writer: e.Writer, From: 10, Last: 9}.Part(), LostPart(e.Writer),
		Opened{Origin: "id.example.com/log/2", Closed: "id.example.com/log/1", Size: 7, Last: "x\n"}.Part(),
	} {
		f.Add([]byte(general(f, p).JSON))
	}
	f.Add([]byte(`{"writer":"0102030405060708","from":1,"last":18446744073709551615,"count":1,"leaves":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","rolled_back":[[1,18446744073709551615]]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		part := OpenPart{JSON: b}
		beat, err := beatOf(e, part)
		if err != nil && !cmp.Equal(beat, Beat{}) {
			t.Errorf("an error comes with %+v", beat)
		}
		if err == nil {
			if again, err := beatOf(e, general(t, beat.Part())); err != nil || !cmp.Equal(again, beat) {
				t.Errorf("%+v is read back as %+v: %v", beat, again, err)
			}
			if beat.Count > beat.Last+1-beat.From {
				t.Errorf("%+v vouches for more than there are", beat)
			}
		}
		lost, err := lostOf(part)
		if err != nil && lost != [8]byte{} {
			t.Errorf("an error comes with %x", lost)
		}
		o, err := OpenedBy(Row{Kind: LogOpened}, part)
		if err != nil && o != (Opened{}) {
			t.Errorf("an error comes with %+v", o)
		}
		if err == nil {
			if again, err := OpenedBy(Row{Kind: LogOpened}, general(t, o.Part())); err != nil || again != o {
				t.Errorf("%+v is read back as %+v: %v", o, again, err)
			}
		}
	})
}

// Rows of an archive: an error comes with none, and what is read is written back as the
// same.
func FuzzParseArchived(f *testing.F) {
	row, _ := NewWriter().Seal(f.Context(), signIn(), newPeople())
	one, err := AppendArchived(nil, 7, row)
	if err != nil {
		f.Fatal(err)
	}
	two, err := AppendArchived(bytes.Clone(one), 8, row)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(one)
	f.Add(two)
	f.Add(one[:len(one)-1])
	f.Add([]byte("{}\n{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := ParseArchived(b)
		if err != nil {
			if rows != nil {
				t.Error("an error comes with rows")
			}
			return
		}
		if len(rows) > TileWidth {
			t.Errorf("%d rows", len(rows))
		}
		var again []byte
		for _, i := range slices.Sorted(maps.Keys(rows)) {
			if again, err = AppendArchived(again, i, rows[i]); err != nil {
				t.Fatal(err)
			}
		}
		if back, err := ParseArchived(again); err != nil || !cmp.Equal(back, rows, cmpopts.EquateEmpty()) {
			t.Errorf("%q is read back otherwise: %v", b, err)
		}
	})
}

// A path is one that TilePath writes, or an error without a value.
func FuzzParseTilePath(f *testing.F) {
	for _, s := range []string{"tile/0/000", "tile/63/x001/x234/067.p/8", "tile/entries/x001/000", "tile/0/000.p/0", "tile/+1/000", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		level, n, width, err := ParseTilePath(path)
		if err != nil {
			if level != 0 || n != 0 || width != 0 {
				t.Error("an error comes with a value")
			}
			return
		}
		if TilePath(level, n, width) != path {
			t.Errorf("%q is another form", path)
		}
	})
}
